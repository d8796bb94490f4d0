"""A percentile out of a packed distribution, inside SQL: what exports of windows tell."""

from django.db import migrations

QUANTILE = """
CREATE FUNCTION tg_dist_quantile(packed bigint[], share float8) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN ceil(packed[1] * share) >= packed[1] THEN packed[4] ELSE (
        SELECT least(packed[4], greatest(packed[3], round(power(2.0::float8, ((entry >> 40) - 0.5) / 64))::bigint))
        FROM (SELECT entry, place, sum(entry & ((1::bigint << 40) - 1)) OVER (ORDER BY place) AS seen
              FROM unnest(packed[5:]) WITH ORDINALITY AS each (entry, place)) AS ranked
        WHERE seen >= ceil(packed[1] * share) ORDER BY place LIMIT 1) END
    WHERE cardinality(packed) > 4
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0008_rootless")]

    operations = [migrations.RunSQL(QUANTILE, "DROP FUNCTION tg_dist_quantile(bigint[], float8);")]
