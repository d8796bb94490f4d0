"""What ``/metrics`` tells of ingest and storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.edge.otlp import Otlp
from controlplane.edge.sizes import Sizes

Samples = Iterable[tuple[str, float]]
Series = Callable[[str, str, str, Samples], list[str]]


def figures(otlp: Otlp, sizes: Sizes, series: Series) -> list[str]:
    """Return lines in Prometheus' text format."""

    def by_signal(name: str, kind: str, text: str, attribute: str) -> list[str]:
        samples = [(f'{{signal="{writer.name}"}}', getattr(writer, attribute)) for writer in otlp.writers]
        return series(name, kind, text, samples)

    return [
        *by_signal("tidegate_ingest_records_total", "counter", "Spans, points and log records written.", "records"),
        *by_signal("tidegate_ingest_batches_total", "counter", "Export requests written.", "batches"),
        *by_signal("tidegate_ingest_groups_total", "counter", "Transactions they were written in.", "groups"),
        *by_signal("tidegate_ingest_refused_total", "counter", "Export requests refused for lack of room.", "refused"),
        *by_signal("tidegate_ingest_queued_bytes", "gauge", "What waits to be written.", "queued_bytes"),
        *by_signal("tidegate_ingest_lag_seconds", "gauge", "How long the oldest batch has been waiting.", "lag_s"),
        *by_signal(
            "tidegate_ingest_wait_seconds_total", "counter", "From arrival to commit, over batches.", "waited_s"
        ),
        *series("tidegate_ingest_rejected_total", "counter", "Records that can't be kept.", [("", otlp.rejected)]),
        *series("tidegate_ingest_held_bytes", "gauge", "Bodies being read or decoded.", [("", otlp.held)]),
        *series(
            "tidegate_table_size_bytes",
            "gauge",
            "Disk used by a table, its indexes and partitions.",
            [(f'{{table="{name}"}}', size) for name, size in sizes.tables],
        ),
        *series(
            "tidegate_database_size_bytes",
            "gauge",
            "Disk used by the database.",
            [("", sizes.database)] if sizes.database else [],
        ),
        *series(
            "tidegate_fold_lag_seconds",
            "gauge",
            "How long ago the last folded hour ended.",
            [(f'{{kind="{kind}"}}', seconds) for kind, seconds in sizes.behind_s],
        ),
    ]
