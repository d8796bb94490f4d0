"""``manage.py rebalance``: carry out the rebalancings that were started, here and now, until they are done."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from controlplane.state.mover import rebalance


class Command(BaseCommand):
    help = "Move the slots of running rebalancings until they are done. The worker does the same by itself."

    requires_system_checks: list[str] = []  # noqa: RUF012  (the base declares it so)

    def handle(self, *_args: Any, **_options: Any) -> None:
        asyncio.run(rebalance())
