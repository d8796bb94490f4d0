"""Sessions that operators end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from controlplane.edge.app import Edge
from controlplane.edge.batch import MOST_SAMPLES, Samples
from controlplane.problems import Forbidden, NotFound
from controlplane.state.actions.rules import put_rule
from controlplane.state.actions.sessions import end_session, forget_ended
from controlplane.state.models import EndedSession
from controlplane.tenancy.models import AuditEntry, Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.edge.conftest import Caller
from tests.edge.test_state import do, op

OPERATOR = Asker("otto", Role.OPERATOR)


@pytest.mark.parametrize("durable", [False, True])
async def test_end_session__in_use__is_gone_and_every_answer_says_so(
    edge: Edge, ask: Caller, acme: Tenant, durable: bool
) -> None:
    await sync_to_async(put_rule)(by=SYSTEM, tenant=acme, document={"durable_sessions": durable})
    await edge._atlas.refresh(at_least=float("inf"))
    before, *_ = await do(
        ask, op("set", "session", "s-1", key="a", value=1), op("set", "session", "s-2", key="a", value=1)
    )
    now = timezone.now()

    values = await sync_to_async(end_session)(by=OPERATOR, tenant="acme", session="s-1", now=now, reason="asked for")
    await edge._atlas.refresh(at_least=float("inf"))
    read, other, wrote = await do(
        ask, op("get", "session", "s-1"), op("get", "session", "s-2"), op("set", "session", "s-1", key="b", value=2)
    )

    assert values == 1
    assert before["memory"]["ended_ms"] == other["memory"]["ended_ms"] == 0
    assert read["items"] == {}
    assert read["memory"]["ended_ms"] == wrote["memory"]["ended_ms"] == int(now.timestamp() * 1000)
    assert other["items"]["a"]["v"] == 1
    entry = await sync_to_async(AuditEntry.objects.get)(action="state.erased")
    assert (entry.target, entry.reason) == ("acme/s-1", "asked for")


async def test_end_session__as_long_ago_as_it_would_have_lived__is_told_of_no_more(
    edge: Edge, ask: Caller, acme: Tenant
) -> None:
    ago = timezone.now() - timedelta(seconds=3601)
    await sync_to_async(end_session)(by=OPERATOR, tenant="acme", session="s-1", now=ago)
    await edge._atlas.refresh(at_least=float("inf"))

    (read,) = await do(ask, op("get", "session", "s-1"))
    await sync_to_async(forget_ended)(now=timezone.now())

    assert read["memory"]["ended_ms"] == 0
    assert not await sync_to_async(EndedSession.objects.exists)()


async def test_end_session__by_somebody_who_may_not__changes_nothing(ask: Caller) -> None:
    await do(ask, op("set", "session", "s-1", key="a", value=1))
    globex = Asker(
        "gus", Role.ADMIN, await sync_to_async(Tenant.objects.create)(slug="globex", name="Globex", lineage=[])
    )

    with pytest.raises(Forbidden):
        await sync_to_async(end_session)(
            by=Asker("vera", Role.VIEWER), tenant="acme", session="s-1", now=timezone.now()
        )
    with pytest.raises(NotFound):
        await sync_to_async(end_session)(by=globex, tenant="acme", session="s-1", now=timezone.now())

    (read,) = await do(ask, op("get", "session", "s-1"))
    assert read["items"]["a"]["v"] == 1
    assert not await sync_to_async(EndedSession.objects.exists)()


def test_samples__of_one_instance__add_up_to_the_seconds_that_passed() -> None:
    samples, one, two = Samples(), UUID(int=1), UUID(int=2)
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def due(incarnation: UUID, at_s: float) -> int:
        return samples.due(incarnation, begin + timedelta(seconds=at_s))

    regular = [due(one, at) for at in (0.1, 0.9, 1.1, 2.0, 4.9, 4.95, 5.0)]
    late, then, early = due(two, 0.5), due(two, 100.0), due(two, 99.0)

    assert regular == [1, 0, 1, 1, 2, 0, 1]
    assert sum(regular) == 6  # the seconds 0 to 5
    assert (late, then, early) == (1, MOST_SAMPLES, 0)
    assert due(two, 100.5) == 0
