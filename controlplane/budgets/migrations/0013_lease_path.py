"""The leases on an account are found whether they are open or closed: what was charged by mistake is taken back from them."""

import django.contrib.postgres.indexes
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("budgets", "0012_retention")]

    operations = [
        migrations.AddIndex(
            "lease", django.contrib.postgres.indexes.GinIndex(fields=["path"], name="lease_path")
        ),
    ]
