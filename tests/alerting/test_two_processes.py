"""Two workers at one time: a rule is looked at by one, a notification leaves once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from controlplane.alerting.actions import configuring, delivering, evaluation
from controlplane.alerting.models import Change, Delivery
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW, Hook


@pytest.mark.django_db(transaction=True)
def test_evaluate_and_deliver__from_eight_threads__tells_each_channel_once(hook: Hook) -> None:
    channel = configuring.create_channel(
        by=SYSTEM, tenant=None, name="hook", kind="webhook", target=hook.url, allow_private=True
    )
    rules = [
        configuring.put_rule(
            by=SYSTEM,
            tenant=None,
            slug=f"r{number}",
            name="",
            kind="absence",
            spec={"window_s": 60},
            channels=[channel],
        )
        for number in range(4)
    ]
    together = Barrier(8)

    def work(_: int) -> None:
        try:
            together.wait()
            for rule in rules:
                evaluation.evaluate(rule.pk, now=NOW)
            delivering.deliver(now=NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))

    assert Change.objects.count() == Delivery.objects.count() == 4
    assert sorted(headers["tidegate-delivery"] for headers, _ in hook.got) == sorted(
        str(pk) for pk in Delivery.objects.values_list("pk", flat=True)
    )
