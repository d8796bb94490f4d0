"""A provider on loopback that speaks enough of OpenAI's, Anthropic's and Gemini's HTTP for their own clients to talk to it.

The last message says what comes of it, in words: ``tokens=40`` pieces of output, ``status=503``, ``slow``, ``gzip``; ``cut=9`` breaks
the connection off after so many pieces, which the client can tell when the stream is ``chunked``.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

INPUT, CACHED, REASONING = 20, 5, 2


class Provider:
    """Keeps what it was asked: ``requests`` are bodies, ``headers`` those that came with them."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.sent_events = 0
        provider = self

        class Handler(_Handler):
            kept = provider

        self._server = _Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    kept: Provider
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name in the base class
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.kept.requests.append(body)
        self.kept.headers.append({name.lower(): value for name, value in self.headers.items()})
        said = json.dumps(body)
        status = re.search(r"status=(\d+)", said)
        tokens = re.search(r"tokens=(\d+)", said)
        if status:
            self._answer(int(status[1]), {"error": {"message": "made to fail", "type": "x"}}, said)
            return
        out = int(tokens[1]) if tokens else 3
        kind = next(kind for path, kind in KINDS.items() if path in self.path)
        if body.get("stream") or "streamGenerateContent" in self.path:
            cut = re.search(r"cut=(\d+)", said)
            events = itertools.islice(kind.events(body, out), int(cut[1]) if cut else None)
            self._stream(events, slow="slow" in said, chunked="chunked" in said, whole=cut is None)
        else:
            self._answer(200, kind.reply(body, out), said)

    def _answer(self, status: int, document: Any, said: str) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        if "gzip" in said:
            body = gzip.compress(body)
            self.send_header("content-encoding", "gzip")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[Any], *, slow: bool, chunked: bool, whole: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        if chunked:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            for event in events:
                name = event.get("type") if isinstance(event, dict) else None
                head = f"event: {name}\n" if name else ""
                data = event if isinstance(event, str) else json.dumps(event)
                piece = f"{head}data: {data}\n\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                self.wfile.flush()
                self.kept.sent_events += 1
                if slow:
                    time.sleep(0.005)
            if chunked and whole:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            return  # the client hung up


class _Chat:
    def _usage(self, out: int) -> dict[str, Any]:
        return {
            "prompt_tokens": INPUT,
            "completion_tokens": out,
            "total_tokens": INPUT + out,
            "prompt_tokens_details": {"cached_tokens": CACHED},
            "completion_tokens_details": {"reasoning_tokens": REASONING},
        }

    def reply(self, body: Any, out: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": "word " * out}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**_head(body, "chat.completion"), "choices": [choice], "usage": self._usage(out)}

    def events(self, body: Any, out: int) -> Iterator[Any]:
        head = _head(body, "chat.completion.chunk")
        for _ in range(out):
            delta = {"role": "assistant", "content": "wrd"}
            yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": self._usage(out)}
        yield "[DONE]"


def _head(body: Any, kind: str) -> dict[str, Any]:
    return {"id": "c-1", "object": kind, "created": 1, "model": body["model"], "service_tier": "default"}


class _Responses:
    def reply(self, body: Any, out: int) -> dict[str, Any]:
        usage = {
            "input_tokens": INPUT,
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": out,
            "output_tokens_details": {"reasoning_tokens": REASONING},
            "total_tokens": INPUT + out,
        }
        text = {"type": "output_text", "text": "word " * out, "annotations": []}
        output = [{"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [text]}]
        return {
            "id": "r-1", "object": "response", "created_at": 1, "model": body["model"], "status": "completed", "output": output,
            "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        }  # fmt: skip

    def events(self, body: Any, out: int) -> Iterator[Any]:
        for number in range(out):
            yield {
                "type": "response.output_text.delta", "delta": "wrd", "item_id": "m", "output_index": 0, "content_index": 0,
                "sequence_number": number, "logprobs": [],
            }  # fmt: skip
        yield {"type": "response.completed", "response": self.reply(body, out), "sequence_number": out}


class _Embeddings:
    def reply(self, body: Any, _: int) -> dict[str, Any]:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        usage = {"prompt_tokens": INPUT, "total_tokens": INPUT}
        return {"object": "list", "model": body["model"], "data": data, "usage": usage}

    def events(self, body: Any, out: int) -> Iterator[Any]:
        raise NotImplementedError


class _Messages:
    def reply(self, body: Any, out: int) -> dict[str, Any]:
        return {
            "id": "msg", "type": "message", "role": "assistant", "model": body["model"], "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": "word " * out}], "usage": self._usage(out),
        }  # fmt: skip

    def _usage(self, out: int) -> dict[str, Any]:
        return {
            "input_tokens": INPUT, "cache_read_input_tokens": CACHED, "cache_creation_input_tokens": 4, "output_tokens": out,
        }  # fmt: skip

    def events(self, body: Any, out: int) -> Iterator[Any]:
        start = {**self.reply(body, out), "content": [], "stop_reason": None, "usage": self._usage(1)}
        yield {"type": "message_start", "message": start}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        for _ in range(out):
            yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "wrd"}}
        yield {"type": "content_block_stop", "index": 0}
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": out}}
        yield {"type": "message_stop"}


class _Gemini:
    def reply(self, _: Any, out: int) -> dict[str, Any]:
        usage = {
            "promptTokenCount": INPUT,
            "cachedContentTokenCount": CACHED,
            "candidatesTokenCount": out,
            "thoughtsTokenCount": REASONING,
        }
        return {
            "candidates": [{"content": {"parts": [{"text": "word " * out}]}}],
            "usageMetadata": usage,
            "modelVersion": "gemini-2.5-pro",
        }

    def events(self, body: Any, out: int) -> Iterator[Any]:
        yield self.reply(body, out)


KINDS: dict[str, Any] = {
    "/chat/completions": _Chat(),
    "/responses": _Responses(),
    "/embeddings": _Embeddings(),
    "/messages": _Messages(),
    "enerateContent": _Gemini(),
}
