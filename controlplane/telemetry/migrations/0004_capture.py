import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0003_spans_in_full"), ("tenancy", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Message",
            fields=[
                ("pk", models.CompositePrimaryKey("trace_id", "span_id", "name", "starts_at", blank=True, editable=False, primary_key=True, serialize=False)),
                ("starts_at", models.DateTimeField()),
                ("trace_id", models.CharField(max_length=32)),
                ("span_id", models.CharField(max_length=16)),
                ("name", models.CharField(max_length=200)),
                ("tenant", models.CharField(max_length=64)),
                ("content", models.TextField()),
            ],
            options={"db_table": "telemetry_message", "managed": False},
        ),
        migrations.CreateModel(
            name="Capture",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("keeps", models.BooleanField()),
                ("redact", models.JSONField(default=list)),
                ("tenant", models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="capture", to="tenancy.tenant")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=["tenant"], nulls_distinct=False, name="capture_once"),
                ],
            },
        ),
    ]
