"""What the ASGI server runs: SDK and OTLP traffic on the raw edge, websockets on Channels, the rest on Django."""

import os
import warnings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

# Static files are read in small chunks from local disk: that they are read synchronously does not hold up the loop.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)

from django.core.asgi import get_asgi_application

django = get_asgi_application()  # before anything below touches a model

from channels.routing import URLRouter

from controlplane.edge.app import PREFIXES, Edge
from controlplane.edge.http import Receive, Scope, Send
from controlplane.garbage import keep_what_was_loaded
from dashboard.routing import websocket_urlpatterns

sockets = URLRouter(websocket_urlpatterns)


class Application:
    """Looks at the path first: what SDKs ask never enters Django."""

    def __init__(self) -> None:
        self._edge: Edge | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._edge is not None and scope["path"].startswith(PREFIXES):
                await self._edge(scope, receive, send)
            else:
                await django(scope, receive, send)  # type: ignore[arg-type]  # ASGI's types differ by library
        elif scope["type"] == "websocket":
            await sockets(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._edge = Edge()  # pools and events belong to the loop that runs them
                await self._edge.start()
                keep_what_was_loaded()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._edge is not None:
                    await self._edge.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


application = Application()
