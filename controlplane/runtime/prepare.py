"""What must be true before the server starts: tables as migrated, static files collected, somebody who can sign in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from controlplane.runtime.engines import CannotStart, secret
from controlplane.tenancy.actions.first_admin import ensure_first_admin


def migrate() -> bool:
    """Apply the migrations that the database lacks; tell whether there were any."""
    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return False
    call_command("migrate", interactive=False, verbosity=0)
    return True


def collect_static() -> bool:
    """Copy the static files to where they are served from, if any changed since the last time; tell whether they did."""
    mark = Path(settings.STATIC_ROOT) / ".fingerprint"
    now = _static_fingerprint()
    if mark.exists() and mark.read_text() == now:
        return False
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    mark.write_text(now)
    return True


def _static_fingerprint() -> str:
    """Return a hash over names, sizes and times of all static files: what a changed file can't but change."""
    seen = []
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = Path(storage.path(name)).stat()
            seen.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(seen)).encode()).hexdigest()


def first_admin() -> bool:
    """Make the first admin unless there is one; tell whether it was made.

    Password and token come from the environment, else the password is made and kept in the data directory. ``CannotStart``
    for presets that the rules refuse.
    """
    kept = Path(settings.DATA_DIR) / "admin-password"
    was_kept = kept.exists()
    password = os.environ.get("TIDEGATE_ADMIN_PASSWORD") or secret(kept)
    try:
        made = ensure_first_admin(password=password, token=os.environ.get("TIDEGATE_ADMIN_TOKEN") or None)
    except ValueError as error:
        raise CannotStart(f"TIDEGATE_ADMIN_TOKEN {error}.") from None
    if not made and not was_kept:
        kept.unlink(missing_ok=True)  # somebody else's admin, somebody else's password
    return made
