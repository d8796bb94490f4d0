"""A person at the dashboard, as a browser without scripts sends it: signs in, fills forms, presses buttons."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request


class Desk:
    """One signed-in browser."""

    def __init__(self, url: str, name: str, password: str) -> None:
        self._url = url
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(jar)
        self.send("/sign-in/", "/sign-in/", {"username": name, "password": password})

    def page(self, path: str) -> str:
        """Return a page's HTML."""
        with self._opener.open(self._url + path, timeout=60) as response:
            body: str = response.read().decode()
            return body

    def send(self, shown: str, action: str, typed: dict[str, str]) -> str:
        """Send a form of the page ``shown``; return the page that it leads to."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page(shown))
        assert token is not None
        data = urllib.parse.urlencode({**typed, "csrfmiddlewaretoken": token[1]}).encode()
        request = urllib.request.Request(self._url + action, data=data, headers={"Referer": self._url + shown})
        try:
            with self._opener.open(request, timeout=60) as response:
                body: str = response.read().decode()
                return body
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{action}: {error.code} {error.read().decode()[:2000]}") from None
