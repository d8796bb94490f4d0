"""The names of each tenant's users on every day, some together in a row: what has a part of a name in it is sought there first."""

from django.db import migrations

NAMES = """
CREATE TABLE telemetry_user_names (
    starts_at timestamptz NOT NULL,
    tenant varchar(64) NOT NULL,
    part smallint NOT NULL,
    names text NOT NULL,
    PRIMARY KEY (tenant, part, starts_at)
) PARTITION BY RANGE (starts_at);
CREATE TABLE telemetry_user_names_strays PARTITION OF telemetry_user_names DEFAULT;
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0024_span_terms")]

    operations = [
        migrations.RunSQL(NAMES, "DROP TABLE telemetry_user_names; DELETE FROM telemetry_fold WHERE kind = 'names';"),
    ]
