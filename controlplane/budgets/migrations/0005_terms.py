from django.db import migrations, models
from django.db.models import Q

AMOUNTS = """
UPDATE budgets_account AS account SET amount_nusd = budget.amount_nusd
FROM budgets_budget AS budget WHERE budget.id = account.budget_id;
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0004_unknown_models")]

    operations = [
        migrations.AddField(
            "budget",
            "on_disconnect",
            models.CharField(
                choices=[("stop", "Stop"), ("finish_lease", "Finish Lease")],
                db_default="stop",
                default="stop",
                max_length=12,
            ),
        ),
        migrations.AddField("budget", "carry_up_to_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("budget", "carries_debt", models.BooleanField(db_default=False, default=False)),
        migrations.AddField("account", "amount_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("account", "carried_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("lease", "revoked", models.BooleanField(db_default=False, default=False)),
        migrations.AddConstraint(
            "budget",
            models.CheckConstraint(
                condition=Q(on_disconnect__in=["stop", "finish_lease"]), name="budget_on_disconnect_known"
            ),
        ),
        migrations.AddConstraint(
            "budget",
            models.CheckConstraint(
                condition=Q(period_kind="calendar", carry_up_to_nusd__gte=0)
                | Q(carry_up_to_nusd=0, carries_debt=False),
                name="budget_only_calendar_carries",
            ),
        ),
        migrations.RunSQL(AMOUNTS, migrations.RunSQL.noop),
    ]
