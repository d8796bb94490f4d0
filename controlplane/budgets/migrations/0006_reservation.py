from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("budgets", "0005_terms")]

    operations = [
        migrations.AddField("budget", "strict", models.BooleanField(db_default=True, default=True)),
        migrations.AddField(
            "budget",
            "on_overrun",
            models.CharField(choices=[("finish", "Finish"), ("cut", "Cut")], db_default="finish", default="finish", max_length=8),
        ),
        migrations.AddConstraint(
            "budget",
            models.CheckConstraint(condition=models.Q(("on_overrun__in", ["finish", "cut"])), name="budget_on_overrun_known"),
        ),
    ]
