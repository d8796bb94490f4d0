"""``manage.py demo``: the demo world, as ``manage.py up`` runs it; or ``manage.py demo --remove``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from controlplane.runtime.demo import run, seed
from controlplane.tenancy.actions.demo import remove_demo


class Command(BaseCommand):
    help = "Run the demo world beside a running server: tenants, services and a provider, all invented."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the server listens")
        parser.add_argument("--restore", action="store_true", help="bring a removed demo world back")
        parser.add_argument("--remove", action="store_true", help="archive the demo's tenants and revoke its keys")
        parser.add_argument("--trace", type=Path, help="CSV of arrival seconds, input tokens, output tokens to replay")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["remove"]:
            if remove_demo(by=seed.DEMO):
                self.stdout.write("The demo world has been removed.")
            return
        try:
            run.run(run.Options(url=options["url"], restore=options["restore"], trace=options["trace"]))
        except seed.Gone as gone:
            self.stdout.write(str(gone))
