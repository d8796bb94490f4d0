"""Rows that every sync changes stay on their page: pages are filled by half."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0007_crowds"),
    ]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET (fillfactor = 50)",
            f"ALTER TABLE {table} RESET (fillfactor)",
        )
        for table in ("budgets_lease", "budgets_account")
    ]
