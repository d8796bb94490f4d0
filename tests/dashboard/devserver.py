"""Serves the dashboard with the test world on an embedded engine: ``python -m tests.dashboard.devserver [port]``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
os.environ["TIDEGATE_ALLOWED_HOSTS"] = "localhost,127.0.0.1"


def main() -> None:
    import django

    import tests.engines  # noqa: F401 - starts them

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    from controlplane.budgets.actions.prices import refresh_price_book
    from tests.dashboard import world

    world.make()
    refresh_price_book()
    connections.close_all()
    port = sys.argv[1] if len(sys.argv) > 1 else "8123"
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", port, "--workers", "1"]
    server = subprocess.Popen([*command, "controlplane.asgi:application"])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    server.wait()


if __name__ == "__main__":
    main()
