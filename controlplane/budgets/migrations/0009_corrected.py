"""What was taken back of each account in all: so much of it is bounded, whatever is said."""

from django.db import migrations, models

SUMS = """
UPDATE budgets_account AS account SET corrected_nusd = sums.corrected
FROM (
    SELECT account_id, sum(corrected_nusd) AS corrected
    FROM budgets_ledgerentry AS entry CROSS JOIN unnest(entry.path) AS account_id
    WHERE incarnation IS NULL OR kind <> 'carry' GROUP BY account_id
) AS sums
WHERE sums.account_id = account.id AND sums.corrected <> 0
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0008_room_for_updates")]

    operations = [
        migrations.AddField("account", "corrected_nusd", models.BigIntegerField(db_default=0, default=0)),
        migrations.RunSQL(SUMS, migrations.RunSQL.noop),
    ]
