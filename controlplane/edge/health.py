"""``/healthz``, ``/readyz`` and ``/metrics``: for load balancers and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controlplane.edge.batch import Batcher
from controlplane.edge.http import Response
from controlplane.edge.mirror import Mirror

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_PROMETHEUS = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


def healthz() -> Response:
    """The process answers."""
    return Response(200, b"ok\n", (_TEXT,))


def readyz(mirror: Mirror) -> Response:
    """Calls can be governed."""
    if mirror.ready:
        return Response(200, b"ready\n", (_TEXT,))
    return Response(503, b"the database has not been seen lately\n", (_TEXT, (b"retry-after", b"1")))


def metrics(
    mirror: Mirror, batcher: Batcher, requests: Mapping[tuple[str, int], int], more: Iterable[str] = ()
) -> Response:
    """The edge's own counters in Prometheus' text format, and ``more`` lines of it."""
    lines = [
        *series("tidegate_ready", "gauge", "Whether calls can be governed.", [("", int(mirror.ready))]),
        *series("tidegate_config_waiting", "gauge", "Long-polls for config that are open.", [("", mirror.waiting)]),
        *series("tidegate_syncs_queued", "gauge", "Syncs that wait to be written.", [("", batcher.queued)]),
        *series("tidegate_syncs_total", "counter", "Syncs written.", [("", batcher.syncs)]),
        *series(
            "tidegate_sync_groups_total", "counter", "Transactions that syncs were written in.", [("", batcher.groups)]
        ),
        *series(
            "tidegate_edge_requests_total",
            "counter",
            "Requests answered by the edge.",
            [(f'{{path="{path}",status="{status}"}}', count) for (path, status), count in sorted(requests.items())],
        ),
        *more,
    ]
    return Response(200, ("\n".join(lines) + "\n").encode(), (_PROMETHEUS,))


def series(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    """Return one family of samples; nothing when there are none."""
    lines = [f"{name}{labels} {value}" for labels, value in samples]
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines] if lines else []
