"""Usage by the price book that it was charged at. What was counted before is carried over, its book unknown."""

from django.db import migrations, models

CARRY_OVER = """
INSERT INTO telemetry_usage_priced (day, tenant, model, book, calls, unpriced_calls, cost_nusd, usage)
SELECT day, tenant, model, '', sum(calls), 0, sum(cost_nusd),
       jsonb_build_object('input', sum(greatest(0, input_tokens - cached_input_tokens))::bigint,
                          'cached_input', sum(cached_input_tokens)::bigint, 'output', sum(output_tokens)::bigint)
FROM telemetry_usage_daily GROUP BY day, tenant, model
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0004_capture")]

    operations = [
        migrations.CreateModel(
            name="DailyPricedUsage",
            fields=[
                ("pk", models.CompositePrimaryKey("day", "tenant", "model", "book", blank=True, editable=False, primary_key=True, serialize=False)),
                ("day", models.DateField()),
                ("tenant", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=120)),
                ("book", models.CharField(max_length=64)),
                ("calls", models.BigIntegerField(default=0)),
                ("unpriced_calls", models.BigIntegerField(default=0)),
                ("cost_nusd", models.BigIntegerField(default=0)),
                ("usage", models.JSONField(default=dict)),
            ],
            options={"db_table": "telemetry_usage_priced"},
        ),
        migrations.RunSQL(CARRY_OVER, migrations.RunSQL.noop),
    ]
