"""``manage.py token create``: a token for an operator's program."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.problems import Problem
from controlplane.tenancy.actions.tokens import create_token
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM


class Command(BaseCommand):
    help = "Make a bearer token for the management API."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a token and print it; it is shown this once")
        create.add_argument("name", help="who will use it")
        create.add_argument("--role", choices=Role.values, required=True)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            _token, text = create_token(by=SYSTEM, name=options["name"], role=options["role"])
        except Problem as problem:
            raise CommandError(" ".join([problem.detail, *problem.errors.values()])) from None
        self.stdout.write(text)
