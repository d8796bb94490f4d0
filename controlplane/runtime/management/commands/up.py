"""``manage.py up``: start everything on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from controlplane.runtime import up
from controlplane.runtime.engines import CannotStart


def _workers(text: str) -> int:
    workers = int(text)
    if not 1 <= workers <= 64:
        raise argparse.ArgumentTypeError("between 1 and 64")
    return workers


class Command(BaseCommand):
    help = "Start PostgreSQL, Valkey, the server, a worker and the demo world; Ctrl-C stops them."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 for any free one")
        parser.add_argument(
            "--data-dir", type=Path, default=settings.DATA_DIR, help="where data and passwords are kept"
        )
        parser.add_argument("--workers", type=_workers, default=1, help="server processes")
        parser.add_argument(
            "--demo",
            action=argparse.BooleanOptionalAction,
            default=None,
            help="run the demo world, also when it was removed before; --no-demo removes it",
        )
        parser.add_argument("--trace", type=Path, help="CSV of arrival seconds, input tokens, output tokens to replay")

    def handle(self, *_: Any, **options: Any) -> None:
        asked = {name: options[name] for name in ("host", "port", "data_dir", "workers", "demo", "trace")}
        try:
            up.run(up.Options(**asked))
        except CannotStart as error:
            self.stderr.write(str(error))
            raise SystemExit(1) from None
