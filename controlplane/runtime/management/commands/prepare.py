"""``manage.py prepare``: bring the database and the static files to what this version needs. Quick when they are."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from controlplane.budgets.actions.prices import refresh_price_book
from controlplane.runtime import prepare
from controlplane.runtime.engines import CannotStart
from controlplane.telemetry.actions.retention import make_partitions
from controlplane.tenancy.actions.demo import remove_demo
from controlplane.tenancy.queries import SYSTEM


class Command(BaseCommand):
    help = "Migrate the database, collect static files, make the first admin; each only where needed."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove-demo", action="store_true", help="archive the tenants of the demo world")

    def handle(self, *_: Any, **options: Any) -> None:
        if prepare.migrate():
            self.stdout.write("The database has been migrated.")
        make_partitions(today=timezone.now().date())
        prepare.collect_static()
        try:
            prepare.first_admin()
        except CannotStart as error:
            raise CommandError(str(error)) from None
        refresh_price_book()
        if options["remove_demo"] and remove_demo(by=SYSTEM):
            self.stdout.write("The demo world has been removed.")
