"""How a notification leaves the house: a signed webhook, a Slack-compatible webhook, or mail.

No request goes to a private address unless the channel may: the name is looked up once, every address that it has is checked,
and the connection goes to the address that was checked. Redirects are not followed. Whoever answers byte by byte is cut off, and names that
nobody knows are not waited for any longer than a receiver that is silent.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings

from controlplane.alerting.mail import mail
from controlplane.alerting.models import Channel, ChannelKind, Delivery
from controlplane.alerting.names import addresses_of
from controlplane.alerting.outcome import Outcome

TIMEOUT_S = 5.0  # for whoever is silent
SLOW_S = 1.0  # whoever takes that long lets others go first
LONGEST_S = 10.0  # for all of it, from looking up the name to the end of the answer
_PLAIN = "/%?&=+,;:@!$'()*~[]"  # of an address; what else is in it is written in percent, or refused
_MOST_LINES = 50  # of members, in a text
_MOST_TEXT = 3000  # of a block; Slack takes no more
_MARKS = {"firing": "🔴", "resolved": "🟢", "no-data": "⚪", "error": "🟠", "test": "🔵"}


class NotAllowed(Exception):
    """The address may not be called."""


def send(delivery: Delivery) -> Outcome:
    """Send one notification to its channel."""
    began = time.monotonic()
    outcome = _sent(delivery)
    took_s = time.monotonic() - began
    return outcome._replace(silent=outcome.silent or took_s >= TIMEOUT_S, slow=took_s >= SLOW_S)


def _sent(delivery: Delivery) -> Outcome:
    channel = delivery.channel
    try:
        if channel.kind == ChannelKind.EMAIL:
            return _mail(delivery)
        body = slack_body(delivery.body) if channel.kind == ChannelKind.SLACK else delivery.body
        return _post(channel, json.dumps(body, ensure_ascii=False).encode(), str(delivery.pk))
    except NotAllowed as error:
        return Outcome(False, False, str(error))
    except (OSError, http.client.HTTPException, smtplib.SMTPException) as error:
        return Outcome(False, True, f"{type(error).__name__}: {error}", silent=True)
    except ValueError as error:  # names and ports that can't be, by all who have a say in it
        return Outcome(False, False, f"The address can't be called: {error}")


def title_of(body: dict[str, Any]) -> str:
    """Return one line: ``[page] firing: Errors of chat (acme)``."""
    label = f" ({body['label']})" if body["label"] else ""
    return f"[{body['severity']}] {body['event']}: {body['name']}{label}"


def slack_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return what Slack and those who speak like it take."""
    lines = [f"{_MARKS.get(body['event'], '')} {title_of(body)}", body["summary"], *members_of(body)]
    text = _escaped("\n".join(lines))
    link = _link()
    fields = [f"*Rule*\n{_escaped(body['rule'] or '–')}", f"*State*\n{_escaped(_course(body))}"]
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text[:_MOST_TEXT]}},
        {"type": "section", "fields": [{"type": "mrkdwn", "text": field} for field in fields]},
    ]
    if link:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"<{link}|Open alerts>"}})
    return {"text": text, "blocks": blocks}


def _escaped(text: str) -> str:
    """Return text that Slack takes as such: a model of the name ``<!channel>`` calls nobody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def members_of(body: dict[str, Any]) -> list[str]:
    """Return a line for each alert of a group, and how many more there are; none when it is of one."""
    alerts = body.get("alerts", [])
    if len(alerts) < 2:
        return []
    lines = []
    for each in alerts[:_MOST_LINES]:
        label = f" ({each['label']})" if each["label"] else ""
        lines.append(f"{_MARKS.get(each['event'], '🔴')} {each['event']}: {each['name']}{label}: {each['summary']}")
    more = len(alerts) - len(lines) + body.get("omitted", 0)
    return [*lines, f"… and {more} more"] if more else lines


def _course(body: dict[str, Any]) -> str:
    # A test, an escalation and a repetition change nothing.
    changed = body["before"] and body["before"] != body["state"]
    return f"{body['before']} → {body['state']}" if changed else str(body["state"])


def _link() -> str:
    return f"{settings.PUBLIC_URL.rstrip('/')}/alerts/" if settings.PUBLIC_URL else ""


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return ``t=…,v1=…``: HMAC-SHA-256 over the time, a dot and the body, with the channel's secret."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def _mail(delivery: Delivery) -> Outcome:
    body = delivery.body
    to = [address.strip() for address in delivery.channel.target.split(",") if address.strip()]
    lines = [
        body["summary"],
        *members_of(body),
        "",
        f"Rule: {body['rule'] or '–'}",
        f"State: {_course(body)}",
        f"At: {body['at']}",
    ]
    return mail(to, title_of(body), "\n".join([*lines, _link()]).strip() + "\n", delivery.pk)


def _post(channel: Channel, body: bytes, delivery: str) -> Outcome:
    parts = urlsplit(channel.target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotAllowed("The address is not http or https.")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    began = time.monotonic()
    address = allowed_address(parts.hostname, port, allow_private=channel.allow_private)
    headers = {"Content-Type": "application/json", "User-Agent": "Tidegate", "Tidegate-Delivery": delivery}
    if channel.secret:
        headers["Tidegate-Signature"] = signature(channel.secret, int(time.time()), body)
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PLAIN)
    left_s = LONGEST_S - (time.monotonic() - began)
    with _connected(parts.scheme, parts.hostname, port, address, left_s) as connection:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        said = response.read(200).decode("utf-8", "replace").replace("\x00", "\ufffd").strip()
    text = f"{response.status} {said}".strip()
    if 200 <= response.status < 300:
        return Outcome(True, False, text)
    return Outcome(False, response.status >= 500 or response.status in (408, 425, 429), text)


def allowed_address(host: str, port: int, *, allow_private: bool) -> str:
    """Return an address of ``host`` that may be called; ``NotAllowed`` when it has one that may not, ``OSError`` when it has none."""
    addresses = addresses_of(host, port, TIMEOUT_S)
    for address in addresses:
        if not allow_private and not is_public(address):
            raise NotAllowed(f"{host} is at {address}, inside of a private network: the channel may not call there.")
    return addresses[0]


def is_public(address: str) -> bool:
    """Return whether an address is one of the open internet."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.sixtofour or parsed.teredo or parsed.is_site_local:  # the first two hold addresses of the old kind
            return False
        parsed = parsed.ipv4_mapped or parsed
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


@contextmanager
def _connected(scheme: str, host: str, port: int, address: str, most_s: float) -> Iterator[http.client.HTTPConnection]:
    """Give a connection to the address that was checked, under the name that was asked for, for ``most_s`` at most."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    plain = socket.create_connection((address, port), TIMEOUT_S)
    other_end = plain.dup()
    late = threading.Timer(max(0.0, most_s - (time.monotonic() - began)), _cut, [other_end])
    late.daemon = True
    late.start()
    try:
        secure = ssl.create_default_context() if scheme == "https" else None
        connection.sock = secure.wrap_socket(plain, server_hostname=host) if secure else plain
        yield connection
    finally:
        late.cancel()
        connection.close()
        plain.close()
        other_end.close()


def _cut(connection: socket.socket) -> None:
    """End a connection that somebody waits on."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
