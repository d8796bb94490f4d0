"""HTTP for ``tidegate.testing.FakeControlPlane``."""

from __future__ import annotations

import gzip
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from tidegate.testing import FakeControlPlane

KEY = "tg_fake_key"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, plane: FakeControlPlane, port: int) -> None:
        self.plane = plane
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    @property
    def plane(self) -> FakeControlPlane:
        return self.server.plane

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the base's
        """Tests are quiet."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        if self._turned_down():
            return
        url = urlsplit(self.path)
        if url.path.startswith("/sdk/v1/prices/"):
            body = self.plane.book()
            self._reply(200, body, etag=hashlib.sha256(body).hexdigest())
            return
        if url.path == "/sdk/v1/state/changes":  # without it callers ask each time
            self._reply(404, b"")
            return
        known = self.headers.get("If-None-Match", "").strip('"')
        wait_s = float(parse_qs(url.query).get("wait", ["0"])[0])
        etag, found = self.plane.answer_config(known, wait_s)
        self._reply(304 if found is None else 200, found or b"", etag=etag)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self._turned_down():
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        document = json.loads(body)
        if self.path == "/v1/traces":
            with self.plane.lock:
                for resource in document["resourceSpans"]:
                    self.plane.spans.extend(span for scope in resource["scopeSpans"] for span in scope["spans"])
                self.plane.lock.notify_all()
            self._reply(200, b"{}")
            return
        if self.path == "/sdk/v1/state/ops":
            with self.plane.lock:
                answers = [self.plane.state.answer(op, self.plane.scope) for op in document["ops"]]
            self._reply(200, json.dumps({"answers": answers}).encode())
            return
        answer = self.plane.mangle(self.path, self.plane.answer_sync(document))
        self._reply(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def _turned_down(self) -> bool:
        if not self.plane.is_up:
            self.close_connection = True
            return True
        with self.plane.lock:
            status = self.plane.statuses.pop(0) if self.plane.statuses else 0
        if not status and self.headers.get("Authorization") != f"Bearer {KEY}":
            status = 401
        if status:
            self._reply(
                status,
                json.dumps({"title": "turned down", "status": status, "detail": "as the test said"}).encode(),
            )
        return bool(status)

    def _reply(self, status: int, body: bytes, etag: str = "") -> None:
        self.send_response(status)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
