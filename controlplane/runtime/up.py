"""``manage.py up``: engines, then the database, then the server and its helpers, until somebody stops it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.runtime import reach
from controlplane.runtime.console import Console
from controlplane.runtime.demo.traces import read_trace
from controlplane.runtime.engines import (
    CannotStart,
    Engine,
    free_port,
    port_is_free,
    prepare_postgres,
    prepare_valkey,
    secret,
    wait_for_orphans,
)
from controlplane.runtime.locks import DataLock
from controlplane.runtime.supervisor import CELERY_SMALL_TALK, Child, Supervisor

ENGINE_START_S, READY_S = 60.0, 120.0
HOPELESS_DEATHS = 5
# How long each wave may take to stop: callers and helpers, who ask the server; the server; the engines, who lose nothing when killed.
CALLERS_STOP_S, SERVER_STOP_S, ENGINES_STOP_S = 5.0, 3.0, 5.0
CALLERS, ENGINES = "callers", "engines"
SAME_WISH_S = 1.0
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
MANAGE = Path(__file__).resolve().parents[2] / "manage.py"
BACKPRESSURE = 20_000  # each SDK keeps one long-poll open; the default of 1,024 would leave no room for its syncs


@dataclass(frozen=True)
class Options:
    """What the person at the terminal asked for.

    ``demo``: run the demo world, even when it was removed (True); remove it (False); run it unless it was removed (None).
    ``trace`` is what the demo world replays instead of traffic drawn by itself.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: Path = Path(".tidegate")
    workers: int = 1
    demo: bool | None = None
    trace: Path | None = None

    @property
    def url(self) -> str:
        """Return the address that a browser on this machine uses."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}"


def run(options: Options) -> None:
    """Run everything until SIGINT or SIGTERM; ``CannotStart`` if it can't start here."""
    if options.trace is not None:
        read_trace(options.trace)
    folder = _data_folder(options.data_dir)
    lock = DataLock(folder)
    if options.port == 0:
        options = Options(**{**options.__dict__, "port": free_port()})
    lock.take(url=options.url)
    try:
        _check_port(options)
        reach.check_named_servers()
        asyncio.run(_Up(options, folder).run())
    finally:
        lock.release()


def _data_folder(asked: Path) -> Path:
    folder = asked.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotStart(
            f"{folder} can't hold the data ({error.strerror}): name a folder that you may write to with --data-dir."
        ) from None
    return folder


def _check_port(options: Options) -> None:
    try:
        free = port_is_free(options.host, options.port)
    except (OSError, OverflowError) as error:
        raise CannotStart(f"Port {options.port} of {options.host} can't be listened on: {error}.") from None
    if not free:
        raise CannotStart(
            f"Port {options.port} of {options.host} is in use: stop what listens there, or choose another with --port."
        )


class _Up:
    """One run: what it started, in the order in which it started it."""

    def __init__(self, options: Options, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._console = Console()
        self._supervisor = Supervisor(self._console)
        self._stopped = asyncio.Event()
        self._stopped_at = 0.0
        self._env = self._environment()

    def _environment(self) -> dict[str, str]:
        """Return what every child is told: what is in our own environment, then what the data directory remembers."""
        env = dict(os.environ)
        env["TIDEGATE_DATA_DIR"] = str(self._folder)
        env["PYTHONUNBUFFERED"] = "1"
        if not env.get("TIDEGATE_SECRET_KEY"):
            env["TIDEGATE_SECRET_KEY"] = secret(self._folder / "secret-key")
        if not env.get("TIDEGATE_ALLOWED_HOSTS"):
            env["TIDEGATE_ALLOWED_HOSTS"] = ",".join([*LOCAL_NAMES, self._options.host])
        return env

    async def run(self) -> None:
        """Start, say when calls can be governed, wait for a signal, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._supervisor.stop()
        self._console.say("Tidegate has stopped.")

    def _on_signal(self) -> None:
        """Stop; a second signal kills. One that follows at once is the same wish, passed on by a shell or a wrapper."""
        now = asyncio.get_running_loop().time()
        if not self._stopped.is_set():
            self._console.say("Stopping …")
            self._stopped.set()
            self._stopped_at = now
        elif now - self._stopped_at > SAME_WISH_S:
            self._supervisor.hurry()

    async def _start(self) -> None:
        await self._start_engines()
        password_file = self._folder / "admin-password"
        known = password_file.exists()
        prepare = ["manage.py", "prepare", *(["--remove-demo"] if self._options.demo is False else [])]
        if await self._supervisor.run_once(self._python("prepare", *prepare)):
            raise CannotStart("The database could not be prepared; the log above says why.")
        self._supervisor.keep(self._server())
        for child in self._helpers():
            self._supervisor.keep(child)
        await self._until_ready()
        if self._options.demo is not False:
            self._supervisor.keep(self._demo())
        self._console.say(f"Tidegate is ready: {self._options.url}")
        self._console.say(self._how_to_sign_in(password_file, known=known))

    async def _start_engines(self) -> None:
        waits = []
        if not os.environ.get("VALKEY_URL"):
            valkey = prepare_valkey(self._folder / "valkey")
            self._env["VALKEY_URL"] = valkey.url
            self._supervisor.keep(_engine_child(valkey))
            waits.append(("Valkey", lambda: reach.ask_valkey(valkey.url)))
        if not os.environ.get("DATABASE_URL"):
            postgres = prepare_postgres(self._folder / "postgres")
            self._env["DATABASE_URL"] = postgres.url
            self._supervisor.keep(self._postgres_child(postgres))
            waits.append(("PostgreSQL", lambda: reach.ask_postgres(postgres.url)))
        for what, ask in waits:
            await asyncio.to_thread(reach.wait_until, ask, patience_s=ENGINE_START_S, what=what)

    def _postgres_child(self, engine: Engine) -> Child:
        async def no_orphans() -> None:
            await asyncio.to_thread(wait_for_orphans, self._folder / "postgres")

        # SIGINT is its fast shutdown; SIGTERM would wait for clients to leave.
        return _engine_child(engine, stop=signal.SIGINT, before=no_orphans)

    def _python(
        self,
        name: str,
        *arguments: str,
        unsaid: tuple[str, ...] = (),
        until_done: bool = False,
        wave: str = CALLERS,
        stop_s: float = CALLERS_STOP_S,
    ) -> Child:
        """Return a child of our own: ``manage.py COMMAND`` or ``-m MODULE``."""
        command = list(arguments)
        if command[0] == "manage.py":
            command[0] = str(MANAGE)
        return Child(
            name,
            [sys.executable, *command],
            env=self._env,
            cwd=str(MANAGE.parent),
            unsaid=unsaid,
            until_done=until_done,
            wave=wave,
            stop_s=stop_s,
        )

    def _server(self) -> Child:
        options = self._options
        return self._python(
            "server",
            *("-m", "granian", "--interface", "asgi", "--host", options.host, "--port", str(options.port)),
            *("--workers", str(options.workers), "--loop", "uvloop", "--http", "1", "--ws", "--no-access-log"),
            *("--log-level", "warning", "--backlog", "4096", "--backpressure", str(BACKPRESSURE)),
            *("--respawn-failed-workers", "--respawn-interval", "0.5", "--workers-kill-timeout", "2"),
            "controlplane.asgi:application",
            wave="server",
            stop_s=SERVER_STOP_S,
        )

    def _helpers(self) -> list[Child]:
        celery = ("-m", "celery", "--quiet", "-A", "controlplane.celery")
        beat_schedule = str(self._folder / "beat-schedule")
        return [
            self._python(
                "worker",
                *(*celery, "worker", "--pool", "threads", "--concurrency", "2", "--loglevel", "warning"),
                *("--without-gossip", "--without-mingle"),
                unsaid=CELERY_SMALL_TALK,
            ),
            self._python(
                "beat", *celery, "beat", "--schedule", beat_schedule, "--pidfile", "", "--loglevel", "warning"
            ),
        ]

    def _demo(self) -> Child:
        options = self._options
        restore = ["--restore"] if options.demo else []
        trace = ["--trace", str(options.trace.resolve())] if options.trace else []
        return self._python("demo", "manage.py", "demo", "--url", options.url, *restore, *trace, until_done=True)

    async def _until_ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + READY_S
        while not await asyncio.to_thread(_is_ready, self._options):
            if asyncio.get_running_loop().time() > deadline:
                raise CannotStart(f"The server was not ready within {READY_S:.0f} s; the log above says why.")
            if self._supervisor.deaths("server") >= HOPELESS_DEATHS:
                raise CannotStart(f"The server died {HOPELESS_DEATHS} times; the log above says why.")
            await asyncio.sleep(0.05)

    def _how_to_sign_in(self, password_file: Path, *, known: bool) -> str:
        if os.environ.get("TIDEGATE_ADMIN_PASSWORD"):
            return "Sign in as admin with the password in TIDEGATE_ADMIN_PASSWORD."
        if not password_file.exists():
            return "Sign in with an account that this database already has."
        if known:
            return f"Sign in as admin with the password in {password_file}"
        return f"Sign in as admin with the password {password_file.read_text().strip()} (kept in {password_file})"


def _engine_child(
    engine: Engine,
    *,
    stop: signal.Signals = signal.SIGTERM,
    before: Callable[[], Awaitable[None]] | None = None,
) -> Child:
    return Child(
        engine.name,
        engine.command,
        user=engine.user,
        group=engine.group,
        cwd="/",
        stop_signal=stop,
        orphaned=stop,
        before=before,
        stop_s=ENGINES_STOP_S,
        unsaid=engine.unsaid,
        wave=ENGINES,
    )


def _is_ready(options: Options) -> bool:
    """Ask ``/readyz`` once."""
    host, _, port = options.url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
