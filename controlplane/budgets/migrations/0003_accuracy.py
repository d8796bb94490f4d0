from django.db import migrations, models

HIGHEST = """
UPDATE budgets_account AS account SET highest_nusd = budget.amount_nusd
FROM budgets_budget AS budget WHERE budget.id = account.budget_id;
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0002_ledger")]

    operations = [
        migrations.AddField("account", "highest_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("account", "lowered_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("account", "presumed_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("account", "overage_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("lease", "overage_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("ledgerentry", "overage_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.RunSQL(HIGHEST, migrations.RunSQL.noop),
    ]
