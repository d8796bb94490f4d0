"""The last account of a budget before a period is found at once, however long ago it was."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("budgets", "0009_corrected")]

    operations = [
        migrations.AddIndex("account", models.Index(fields=["budget", "ends_at"], name="account_by_end")),
    ]
