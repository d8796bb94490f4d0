"""``manage.py ledger verify``: prove that all counters are what the ledger's entries come to."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from controlplane.budgets.actions.ledger import prove


class Command(BaseCommand):
    help = "Compare every counter with the entries of the ledger. Exits with 1 when any differs."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("verify", help="compare, keep the result for the page Accuracy, and print it")

    def handle(self, *_: Any, **_options: Any) -> None:
        proof = prove(now=timezone.now())
        self.stdout.write(
            f"{proof.entries} entries against {proof.leases} leases, {proof.accounts} accounts and {proof.slots} slots: "
            f"{proof.difference_count} differ ({proof.took_ms} ms)."
        )
        for each in proof.differences:
            self.stdout.write(
                f"  {each['what']} {each['name']}: {each['field']} is {each['row']}, the entries come to {each['entries']}"
            )
        if proof.difference_count:
            raise CommandError("The counters and the ledger differ.")
