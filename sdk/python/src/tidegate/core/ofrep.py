"""OpenFeature's remote evaluation (OFREP 0.3.0) of the releases in a snapshot: requests in, status and document out.

A deployment is a flag whose value is the config of the release that the context gets; ``deployment.name`` is the flag of one entry
of it. ``variant`` is the release's version. The context's ``targetingKey`` is the unit; ``tenant``, ``user``, ``session`` and
``region`` say what rings may name. What the stock providers choke on is avoided: every answer has reason and variant, every
error has a code and details.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tidegate.core.bucketing import PARTS
from tidegate.core.release import NOT_COMPARED, Assignment, Deployment, unit_of
from tidegate.core.snapshot import Snapshot

PATH = "/ofrep/v1/evaluate/flags"
EVENTS = "/ofrep/v1/events"
INACTIVITY_S = 120  # a page that nobody looks at for so long may let go of its stream
MAX_BODY = 256 * 1024
_NAMES = ("tenant", "user", "session", "region")


class Answer(NamedTuple):
    """``document`` is ``None`` for 304."""

    status: int
    document: dict[str, Any] | None
    etag: str | None = None


class Refusal(Exception):
    """The request can't be evaluated; ``code`` is one of OFREP's."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Context(NamedTuple):
    """What a request says of the one who asks. ``said`` is all of it, for the ETag."""

    key: str
    tenant: str
    user: str
    session: str
    region: str
    said: str


def read_context(body: bytes) -> Context:
    """Return the context of a request's body; an empty body has an empty one. ``Refusal`` when it is none."""
    try:
        document = json.loads(body) if body.strip() else {}
    except ValueError as error:
        raise Refusal("PARSE_ERROR", f"The body is not JSON: {error}.") from None
    context = document.get("context", {}) if isinstance(document, dict) else None
    if not isinstance(context, dict):
        raise Refusal("INVALID_CONTEXT", 'The body is an object with a "context", which is an object.')
    return context_of(context.get("targetingKey", ""), context, said=json.dumps(context, sort_keys=True))


def context_of(key: Any, attributes: Mapping[str, Any], *, said: str = "") -> Context:
    """Return the context of a targeting key and attributes; ``Refusal`` when one that matters is no text."""
    if not isinstance(key, str):
        raise Refusal("INVALID_CONTEXT", "targetingKey is text.")
    named = {name: attributes.get(name, "") for name in _NAMES}
    for name, value in named.items():
        if not isinstance(value, str):
            raise Refusal("INVALID_CONTEXT", f"{name} is text.")
    return Context(key, **named, said=said)


def evaluate(snapshot: Snapshot, flag: str, context: Context) -> Answer:
    """Answer for one flag."""
    found = _find(snapshot, flag)
    if found is None:
        details = "There is no deployment of that name, or no such entry in its config, that this key may see."
        return Answer(404, {"key": flag, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details})
    deployment, entry = found
    try:
        assignment = _assigned(snapshot, deployment, context)
    except Refusal as refusal:
        return Answer(400, {"key": flag, "errorCode": refusal.code, "errorDetails": refusal.details})
    return Answer(200, _success(flag, entry, deployment, assignment))


def evaluate_all(snapshot: Snapshot, context: Context, *, known: str = "", version: str, events: str = "") -> Answer:
    """Answer for all flags; 304 when ``known`` is the ETag of the same releases and context.

    ``version`` names the releases, ``events`` the address where changes of them are told.
    """
    covered = f"{version}\n{events}\n{context.said}".encode("utf-8", "surrogatepass")
    etag = '"' + hashlib.sha256(covered).hexdigest()[:32] + '"'
    if known and etag in known:
        return Answer(304, None, etag)
    flags = []
    for deployment in snapshot.deployments.values():
        try:
            assignment = _assigned(snapshot, deployment, context)
        except Refusal as refusal:
            flags += [
                {"key": flag, "errorCode": refusal.code, "errorDetails": refusal.details}
                for flag, _ in _flags_of(deployment)
            ]
            continue
        flags += [_success(flag, entry, deployment, assignment) for flag, entry in _flags_of(deployment)]
    document: dict[str, Any] = {"flags": flags, "metadata": {"revision": snapshot.revision}}
    if events:
        stream = {"type": "sse", "endpoint": {"requestUri": events}, "inactivityDelaySec": INACTIVITY_S}
        document["eventStreams"] = [stream]
    return Answer(200, document, etag)


def flags_that_differ(before: Snapshot, after: Snapshot) -> list[str]:
    """Return the flags that somebody may get another value of: those of deployments that came, went or took a step."""
    old, new = ({one.slug: one for one in each.deployments.values()} for each in (before, after))
    moved = [slug for slug in {*old, *new} if slug not in old or slug not in new or old[slug].step != new[slug].step]
    named = {flag for slug in moved for side in (old, new) if slug in side for flag, _ in _flags_of(side[slug])}
    return sorted(named)


def changed_event(version: str) -> bytes:
    """Return the event that tells of releases of another ``version``, which a client that comes back names as the last it saw."""
    data = json.dumps({"type": "refetchEvaluation", "etag": version})
    return f"id: {version}\nevent: message\ndata: {data}\n\n".encode()


STILL_THERE = b": still there\n\n"


def _find(snapshot: Snapshot, flag: str) -> tuple[Deployment, str | None] | None:
    """Return the deployment of a flag, and the entry of its config that is meant, ``None`` for all of it."""
    if flag in snapshot.deployments:
        return snapshot.deployments[flag], None
    slug, dot, entry = flag.partition(".")
    deployment = snapshot.deployments.get(slug)
    if deployment is None or not dot or entry not in _entries(deployment):
        return None
    return deployment, entry


def _entries(deployment: Deployment) -> list[str]:
    releases = [deployment.stable, *([deployment.candidate] if deployment.candidate else [])]
    return sorted({name for release in releases for name in _object(release.config)})


def _object(config: Any) -> Mapping[str, Any]:
    return config if isinstance(config, Mapping) else {}


def _flags_of(deployment: Deployment) -> Iterable[tuple[str, str | None]]:
    yield deployment.slug, None
    for entry in _entries(deployment):
        yield f"{deployment.slug}.{entry}", entry


def _assigned(snapshot: Snapshot, deployment: Deployment, context: Context) -> Assignment:
    tenant = context.tenant or snapshot.scope or ""
    user, session = context.user or context.key, context.session or context.key
    unit = unit_of(deployment, tenant=tenant, user=user, session=session) or context.key
    if not unit and deployment.candidate is not None and deployment.rings:
        raise Refusal(
            "TARGETING_KEY_MISSING", f"{deployment.slug} is being rolled out: who asks must be named by targetingKey."
        )
    return deployment.assign(unit, tenant=tenant, user=user, region=context.region)


def _success(flag: str, entry: str | None, deployment: Deployment, assignment: Assignment) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "key": flag,
        "reason": _reason(deployment, assignment),
        "variant": assignment.version,
        "metadata": {
            "deployment": assignment.deployment,
            "release": assignment.release,
            "arm": assignment.arm,
            "ring": assignment.ring,
        },
    }
    config = _object(assignment.config)
    if entry is None:
        answer["value"] = dict(config)
    elif config.get(entry) is not None:
        answer["value"] = config[entry]
    else:
        answer["reason"] = "DEFAULT"  # without a value the program's own default holds
    return answer


def _reason(deployment: Deployment, assignment: Assignment) -> str:
    if deployment.candidate is None or not deployment.rings:
        return "STATIC"
    if assignment.ring != NOT_COMPARED or any(ring.share < PARTS for ring in deployment.rings):
        return "SPLIT"
    return "TARGETING_MATCH" if assignment.arm == "canary" else "DEFAULT"
