from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("budgets", "0006_reservation")]

    operations = [
        migrations.AddField("account", "live_holders", models.IntegerField(db_default=0, default=0)),
        migrations.AddField("account", "wanting_holders", models.IntegerField(db_default=0, default=0)),
        migrations.AddField("account", "counted_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("lease", "short_nusd", models.BigIntegerField(db_default=0, default=0)),
    ]
