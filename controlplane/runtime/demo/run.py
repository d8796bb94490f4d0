"""Runs the demo world: the provider, the services, and the incidents, until it is stopped or removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from controlplane.runtime.console import Console
from controlplane.runtime.demo import incidents, releases, seed, timeline, wire, world
from controlplane.runtime.engines import free_port
from controlplane.runtime.supervisor import CELERY_SMALL_TALK, Child, Supervisor

LOOK_EVERY_S = 2.0
STOP_S = 3.5  # less than who runs us waits for all of us
SERVICE = "controlplane.runtime.demo.service"
PROVIDER = "controlplane.runtime.demo.provider"
EXAMPLES = Path(settings.BASE_DIR) / "sdk/python/examples"

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """``url`` is where the server listens; ``restore`` brings a removed demo world back."""

    url: str
    restore: bool = False
    trace: Path | None = None


def run(options: Options) -> None:
    """Seed and run until SIGINT or SIGTERM, or until somebody removes the demo world. ``Gone`` if it was removed before."""
    console = Console()
    seed.seed(now=timezone.now(), restore=options.restore)
    key = seed.key_text(Path(settings.DATA_DIR) / "demo-key")
    close_old_connections()
    asyncio.run(_run(console, options, key))


async def _run(console: Console, options: Options, key: str) -> None:
    port, began_at = free_port(), time.time()
    env = {
        **os.environ,
        "TIDEGATE_URL": options.url,
        "TIDEGATE_KEY": key,
        "TIDEGATE_DEMO_PROVIDER_PORT": str(port),
        "TIDEGATE_DEMO_BEGAN_AT": str(began_at),
    }
    if options.trace:
        env["TIDEGATE_DEMO_TRACE"] = str(options.trace.resolve())
    supervisor = Supervisor(console)
    supervisor.keep(_child("provider", env, PROVIDER, str(port)))
    for service in world.SERVICES:
        supervisor.keep(_child(service.name, env, SERVICE, service.name))
    if not options.trace:
        for child in _patterns(env, port):
            supervisor.keep(child)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    living = asyncio.create_task(_live(console, stopped, port, began_at, incidents_on=options.trace is None))
    await stopped.wait()
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    await supervisor.stop(together=True)


def _child(name: str, env: dict[str, str], module: str, argument: str) -> Child:
    return Child(name, [sys.executable, "-m", module, argument], env=env, stop_s=STOP_S)


def _patterns(env: dict[str, str], provider_port: int) -> list[Child]:
    """Return the examples of the SDK as programs of the demo world, and the worker that one of them has work done by."""
    if not EXAMPLES.is_dir():
        return []
    env = {
        **{
            name: value for name, value in env.items() if name != "DJANGO_SETTINGS_MODULE"
        },  # they are not of the server
        "OPENAI_BASE_URL": f"http://127.0.0.1:{provider_port}/v1",
        "OPENAI_API_KEY": "",
        "CELERY_BROKER_URL": settings.CELERY_BROKER_URL,
    }
    worker = [
        sys.executable,
        "-m",
        "celery",
        "--quiet",
        "-A",
        "mesh_worker",
        "worker",
        "-P",
        "threads",
        "-c",
        "4",
        "-n",
        "demo-mesh@%h",
    ]
    quiet = ["--loglevel", "warning", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    commands = {Path(one.script).stem: [sys.executable, one.script, *one.arguments] for one in world.PATTERNS}
    commands["mesh-worker"] = [*worker, *quiet]
    return [
        Child(name, command, env=env, cwd=str(EXAMPLES), stop_s=STOP_S, unsaid=CELERY_SMALL_TALK)
        for name, command in commands.items()
    ]


async def _live(console: Console, stopped: asyncio.Event, port: int, began_at: float, *, incidents_on: bool) -> None:
    """Go through the phases, and look now and then whether the demo world is still wanted."""
    current: timeline.Phase | None = None
    while not stopped.is_set():
        phase = timeline.phase_at(time.time() - began_at)
        try:
            if incidents_on and phase != current:
                await incidents.tell_provider(port, phase)
                await asyncio.to_thread(_with_database, incidents.steer_budget, phase)
                console.say(f"incidents  | {phase.says}")
                current = phase
            if incidents_on:
                await asyncio.to_thread(_with_database, releases.steer, timezone.now())
            if not await asyncio.to_thread(_with_database, seed.is_there):
                console.say("The demo world was removed.")
                stopped.set()
        except (DatabaseError, OSError, wire.Malformed):
            pass  # a part is starting again; the next look finds it
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), LOOK_EVERY_S)


def _with_database(function: Callable[..., T], *arguments: object) -> T:
    try:
        return function(*arguments)
    finally:
        close_old_connections()
