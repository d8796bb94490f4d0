"""What holders of leases on an account could still spend when they were counted last: who is denied may wait for it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("budgets", "0010_account_by_end")]

    operations = [
        migrations.AddField("account", "left_nusd", models.BigIntegerField(db_default=0, default=0)),
    ]
