"""Clients that were silent for long are forgotten. Their names are kept, 16 bytes each: whoever comes back with one is refused, or
what it said before would count again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from controlplane.columns import ids
from controlplane.fleet.models import Instance

BATCH = 1000
FIRST = UUID(int=0)


def lock_silent(*, before: datetime, after: UUID = FIRST) -> list[UUID]:
    """Return the next clients by name that were not heard of since ``before``, locked: until the transaction ends they are not."""
    silent = Instance.objects.select_for_update(skip_locked=True).filter(seen_at__lt=before, incarnation__gt=after)
    return list(silent.order_by("incarnation").values_list("incarnation", flat=True)[:BATCH])


def end(incarnations: Sequence[UUID]) -> None:
    """Forget locked clients with all that they reported of themselves."""
    names = [ids(sorted(incarnations))]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO fleet_endedinstance SELECT unnest(%s::uuid[]) ON CONFLICT (incarnation) DO NOTHING", names
        )
        cursor.execute("DELETE FROM fleet_breakerstate WHERE instance_id = ANY(%s::uuid[])", names)
        cursor.execute("DELETE FROM fleet_limitdemand WHERE instance_id = ANY(%s::uuid[])", names)
        cursor.execute("DELETE FROM fleet_instance WHERE incarnation = ANY(%s::uuid[])", names)
