"""A program that manages a control plane over ``/api/v1/``, with nothing but the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


class Management:
    """One operator's token at one server."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token

    def get(self, path: str) -> Any:
        return self._send("GET", path, None)

    def post(self, path: str, document: Any) -> Any:
        return self._send("POST", path, document)

    def usage_of(self, tenant: str) -> dict[str, int]:
        """Return calls, tokens and nano-USD of a tenant, as the server counted them."""
        items = self.get(f"usage/?by=tenant&tenant={tenant}&days=2")["items"]
        fields = ("calls", "input_tokens", "output_tokens", "cost_nusd")
        return {name: sum(int(item[name]) for item in items if item["name"] == tenant) for name in fields}

    def _send(self, method: str, path: str, document: Any) -> Any:
        request = urllib.request.Request(
            f"{self._url}/api/v1/{path}",
            method=method,
            data=json.dumps(document).encode() if document is not None else None,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=15) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None
