"""Prompts and replies: kept where somebody said so, within seconds, masked."""

from __future__ import annotations

from asgiref.sync import sync_to_async

from controlplane.edge.app import Edge
from controlplane.telemetry.actions.capture import put_capture
from controlplane.telemetry.models import Message
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller
from tests.edge.test_otlp import PROTOBUF, request


async def test_capture__switched_on__messages_are_kept_masked_until_it_is_off(ask: Caller, edge: Edge) -> None:
    async def send(number: int) -> list[str]:
        batch = request(1)
        span = batch.resource_spans[0].scope_spans[0].spans[0]
        span.span_id = number.to_bytes(8, "big")
        said = span.attributes.add()
        said.key, said.value.string_value = "gen_ai.input.messages", "order-77 of ada@example.com is late"
        assert (await ask("POST", "/v1/traces", batch.SerializeToString(), PROTOBUF)).status == 200
        return [each async for each in Message.objects.order_by("span_id").values_list("content", flat=True)]

    acme = await Tenant.objects.aget(slug="acme")
    assert await send(1) == []
    await sync_to_async(put_capture)(by=SYSTEM, tenant=acme, keeps=True, redact=["order-[0-9]+"])
    await edge._rules.read()
    assert await send(2) == ["[redacted] of [redacted] is late"]
    await sync_to_async(put_capture)(by=SYSTEM, tenant=acme, keeps=False)
    await edge._rules.read()
    assert len(await send(3)) == 1
