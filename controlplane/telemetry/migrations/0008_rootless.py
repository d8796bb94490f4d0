"""Traces without a root, by the first span that there is of them; and what the server knows of its own size."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0007_hours")]

    operations = [
        migrations.CreateModel(
            name="Rootless",
            fields=[
                ("pk", models.CompositePrimaryKey("starts_at", "trace_id", blank=True, editable=False, primary_key=True, serialize=False)),
                ("trace_id", models.CharField(max_length=32, unique=True)),
                ("span_id", models.CharField(max_length=16)),
                ("starts_at", models.DateTimeField()),
            ],
            options={"db_table": "telemetry_rootless"},
        ),
    ]
