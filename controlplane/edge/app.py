"""The raw ASGI application for SDKs, exporters and load balancers. No framework and no ORM on this path."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from controlplane import listen
from controlplane.edge import health
from controlplane.edge.announce import Announcer
from controlplane.edge.batch import Batcher
from controlplane.edge.config import config, prices
from controlplane.edge.database import make_pool
from controlplane.edge.http import (
    NO_BODY,
    Disconnected,
    Patience,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    problem,
    respond,
    respond_piecewise,
)
from controlplane.edge.ingest_figures import figures
from controlplane.edge.mirror import Mirror
from controlplane.edge.ofrep import Ofrep
from controlplane.edge.otlp import Otlp
from controlplane.edge.own_metrics import OwnMetrics
from controlplane.edge.rules import Rules
from controlplane.edge.sizes import Sizes
from controlplane.edge.state import State
from controlplane.edge.status import refusal
from controlplane.edge.sync import sync
from controlplane.edge.tenant_figures import TenantFigures
from controlplane.problems import NotFound, Problem, Unavailable
from controlplane.state.atlas import Atlas
from controlplane.state.changes import Changes
from controlplane.state.counts import Counts
from controlplane.state.keeper import Keeper
from tidegate.core.ofrep import EVENTS as OFREP_EVENTS
from tidegate.core.ofrep import PATH as OFREP

log = structlog.get_logger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
CONFIG = "/sdk/v1/config"
PREFIXES = ("/sdk/", "/v1/", "/ofrep/", "/healthz", "/readyz", "/metrics")


class WrongMethod(Problem):
    """Says in ``Allow`` which method the path knows (RFC 9110, 15.5.6)."""

    status, kind, title = 405, "wrong-method", "The path does not know this method"

    def __init__(self, name: str, method: str) -> None:
        super().__init__(f"{name} takes {method}.")
        self.method = method


class Edge:
    """One edge per process: its pool, its memory, and the handlers of its paths."""

    def __init__(self) -> None:
        self._pool = make_pool()
        self._patience = Patience()
        self._announcer = Announcer()
        self._mirror = Mirror(self._pool)
        self._batcher = Batcher(self._announcer.tell)
        self._rules = Rules(self._pool)
        self._sizes = Sizes(self._pool)
        self._tenants = TenantFigures(self._pool)
        self._otlp = Otlp(self._mirror, self._pool, self._announcer.tell, self._rules.reading_of)
        self._own = OwnMetrics(self._pool, self._otlp, self._sizes)
        self._atlas, self._changes, counts = Atlas(self._pool), Changes(), Counts()
        self._keeper = Keeper(self._pool, self._atlas, counts, self._announcer.tell)
        state = State(self._mirror, self._atlas, self._changes, counts)
        self._ofrep = Ofrep(self._mirror)
        self._answered: Counter[tuple[str, int]] = Counter()
        self._polls = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._stop_hearing: list[Callable[[], None]] = []  # of changes
        self._routes: dict[str, tuple[str, Handler]] = {
            CONFIG: ("GET", lambda request: config(self._mirror, request)),
            "/sdk/v1/sync": ("POST", lambda request: sync(self._mirror, self._batcher, request)),
            "/v1/traces": ("POST", lambda request: self._otlp.take(self._otlp.traces, request)),
            "/v1/metrics": ("POST", lambda request: self._otlp.take(self._otlp.metrics, request)),
            "/v1/logs": ("POST", lambda request: self._otlp.take(self._otlp.logs, request)),
            "/sdk/v1/state/ops": ("POST", state.ops),
            "/sdk/v1/state/changes": ("GET", state.changes),
            "/sdk/v1/state/map": ("GET", state.map),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics),
        }
        self._routes[OFREP_EVENTS] = ("GET", self._ofrep.events)
        self._prices: tuple[str, Handler] = ("GET", lambda request: prices(self._mirror, request))

    async def start(self) -> None:
        """Open the pool and start keeping up; succeeds without a database, too."""
        await self._pool.open(wait=False)
        self._stop_hearing = [listen.on_change(note) for note in (self._mirror.note, self._atlas.note)]
        works = (self._mirror.run(), self._batcher.run(), self._announcer.run(), listen.run(), self._rules.run())
        figures_kept = (self._sizes.run(), self._tenants.run(), self._own.run())
        state = (self._atlas.run(), self._keeper.run(), self._changes.hear(), self._changes.say())
        for work in (*works, *figures_kept, *state, *self._otlp.work()):
            self._tasks.append(asyncio.create_task(work))

    async def stop(self) -> None:
        """Stop keeping up and close the pool."""
        for end in self._stop_hearing:
            end()
        self._stop_hearing = []
        self._changes.close()
        self._ofrep.close()
        pending = set(self._tasks)
        while pending:  # more than once: a client library may take a cancellation for the timeout of its own
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.2)
        self._otlp.close()
        await self._atlas.close()
        await self._pool.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["path"] == CONFIG and scope["method"] == "GET" and not scope["query_string"]:
            unchanged = self._mirror.unchanged(scope)  # by far the most frequent answer
            if unchanged is not None:
                self._polls += 1
                await send(unchanged)
                await send(NO_BODY)
                return
        await self._answer(Request(scope, receive, self._patience), send)

    async def _answer(self, request: Request, send: Send) -> None:
        name, response = request.path, None
        try:
            name, handler = self._handler(request)
            response = await handler(request)
        except Problem as refused:
            response = _refused(request, refused)
        except Disconnected:
            return
        except Exception:
            log.exception("edge.failed", path=request.path)
            response = _refused(request, Unavailable("Something went wrong here: try again.", retry_after_s=1))
        self._answered[name, response.status] += 1
        if response.stream is not None:
            await respond_piecewise(request, send, response, response.stream)
        else:
            await respond(send, response)

    def _handler(self, request: Request) -> tuple[str, Handler]:
        """Return the name that a path is counted under, and its handler."""
        name = request.path
        found = self._routes.get(name)
        if found is None and name.startswith("/sdk/v1/prices/"):
            name, found = "/sdk/v1/prices/", self._prices
        if name == OFREP or name.startswith(f"{OFREP}/"):
            name, method = OFREP, "OPTIONS" if request.method == "OPTIONS" else "POST"
            found = (method, self._ofrep.answer)
        if found is None:
            raise NotFound("There is nothing at this path; docs/protocol.md names those that there are.")
        method, handler = found
        if request.method != method:
            raise WrongMethod(name, method)
        return name, handler

    async def _healthz(self, _: Request) -> Response:
        return health.healthz()

    async def _readyz(self, _: Request) -> Response:
        return health.readyz(self._mirror)

    async def _metrics(self, request: Request) -> Response:
        authorization = request.headers.get(b"authorization")
        key = await self._mirror.key_of(authorization) if authorization else None
        answered = self._answered + Counter({(CONFIG, 304): self._polls})
        more = figures(self._otlp, self._sizes, health.series) + self._tenants.lines(key, health.series)
        return health.metrics(self._mirror, self._batcher, answered, more)


def _refused(request: Request, refused: Problem) -> Response:
    """Tell an exporter what went wrong in its own words, everybody else in problem+json."""
    if not request.path.startswith("/v1/"):
        response = problem(refused)
    else:
        response = refusal(refused, as_json=b"protobuf" not in request.headers.get(b"content-type", b"").lower())
    if isinstance(refused, WrongMethod):
        return response._replace(headers=(*response.headers, (b"allow", refused.method.encode())))
    return response
