"""A policy document in words: one short line per part."""

from __future__ import annotations

from typing import Any, NamedTuple

from dashboard import figures


class Part(NamedTuple):
    """``name`` is that of the part in the document; ``text`` what it says."""

    name: str
    text: str


def parts_of(document: dict[str, Any]) -> list[Part]:
    """Return what a document says, part by part. Absent parts are left out."""
    made = [Part("limit", _limit(each)) for each in document.get("limits") or []]
    for name, words in (("queue", _queue), ("breaker", _breaker), ("retry", _retry)):
        part = document.get(name)
        if part:
            made.append(Part(name, words(part)))
    if document.get("timeout_ms"):
        made.append(Part("timeout", f"{document['timeout_ms'] / 1000:g} s"))
    fallbacks = document.get("fallbacks")
    if fallbacks:
        made.append(Part("fallback", ", ".join(each.get("route") or "a fixed answer" for each in fallbacks)))
    if document.get("enforcement") not in (None, "enforce"):
        made.append(Part("enforcement", str(document["enforcement"])))
    return made


def _limit(part: dict[str, Any]) -> str:
    burst = f", burst {part['burst']:,}" if part.get("burst") else ""
    scope = {"fleet": "among all clients", "instance": "per client"}.get(str(part.get("scope", "fleet")), "")
    watched = ", watched only" if part.get("enforcement") == "shadow" else ""
    return f"{part.get('amount', 0):,} {part.get('unit', '')} per {part.get('per_s', 60):g} s{burst}, {scope}{watched}"


def _queue(part: dict[str, Any]) -> str:
    text = f"{part.get('max_concurrent')} at once"
    waiting = part.get("max_waiting", 64)
    if waiting:
        text += f", {waiting} wait up to {part.get('max_wait_ms', 2000) / 1000:g} s"
    if part.get("scope") == "fleet":
        text += ", among all clients"
    if part.get("adaptive"):
        text += f", adapted from {part.get('min_concurrent', 1)} up"
    if part.get("congestion") not in (None, "fifo"):
        text += f", {part['congestion']} under congestion"
    return text


def _breaker(part: dict[str, Any]) -> str:
    if part.get("mode") not in (None, "auto"):
        return str(part["mode"]).replace("_", " ")
    window = f"the last {part['window_calls']}" if part.get("window_calls") else f"{part.get('window_s', 30):g} s"
    if part.get("window") == "tumbling" and not part.get("window_calls"):
        window = f"each {window}"
    text = f"opens at {figures.percent(part.get('failure_rate', 0.5), 0)} failed of {part.get('min_calls', 20)}+ in {window}"
    if part.get("slow_call_ms"):
        text += (
            f", or {figures.percent(part.get('slow_call_rate', 0.8), 0)} slower than {part['slow_call_ms'] / 1000:g} s"
        )
    return f"{text}, for {part.get('open_s', 20):g} s"


def _retry(part: dict[str, Any]) -> str:
    attempts = part.get("max_attempts", 3)
    text = "one attempt" if attempts == 1 else f"up to {attempts} attempts"
    return f"{text}, hedged after {part['hedge_ms'] / 1000:g} s" if part.get("hedge_ms") else text
