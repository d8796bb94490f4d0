"""``manage.py prepare``: bring the database and the static files to what this version needs. Quick when they are."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.runtime import prepare
from controlplane.runtime.engines import CannotStart


class Command(BaseCommand):
    help = "Migrate the database, collect static files, make the first admin; each only where needed."
    requires_system_checks = ()

    def handle(self, *_: Any, **__: Any) -> None:
        if prepare.migrate():
            self.stdout.write("The database has been migrated.")
        prepare.collect_static()
        try:
            prepare.first_admin()
        except CannotStart as error:
            raise CommandError(str(error)) from None
