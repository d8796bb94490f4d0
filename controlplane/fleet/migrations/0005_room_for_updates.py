"""Rows that every sync changes stay on their page: pages are filled by half, and no index but a BRIN has what changes."""

import django.contrib.postgres.indexes
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0004_config_at"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="instance", name="instance_newest"),
        migrations.AddIndex(
            model_name="instance",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["seen_at"], name="instance_seen", pages_per_range=16
            ),
        ),
        migrations.RunSQL(
            "ALTER TABLE fleet_instance SET (fillfactor = 50)", "ALTER TABLE fleet_instance RESET (fillfactor)"
        ),
    ]
