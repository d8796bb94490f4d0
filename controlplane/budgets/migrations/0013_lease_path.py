"""Leases are found by age, and those on an account whether they are open or closed: what was charged by mistake is taken back from them."""

import django.contrib.postgres.indexes
from django.db import migrations, models

from controlplane.indexes import concurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("budgets", "0012_retention")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                concurrently("lease_by_age", "budgets_lease", "(created_at, id)"),
                concurrently("lease_path", "budgets_lease", "USING gin (path)"),
            ],
            state_operations=[
                migrations.AddIndex("lease", models.Index(fields=["created_at", "id"], name="lease_by_age")),
                migrations.AddIndex(
                    "lease", django.contrib.postgres.indexes.GinIndex(fields=["path"], name="lease_path")
                ),
            ],
        )
    ]
