"""What the form of a rollout says, and what it would do: the change of the config, the rings, when it begins, what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.domain.rollout import RingPlan
from controlplane.problems import Invalid, Problem
from controlplane.rollouts import queries
from controlplane.rollouts.actions import deployments
from controlplane.rollouts.actions.rollouts import DEFAULTS, Wish, faults_of, rings_of
from controlplane.rollouts.models import Deployment, Release, Rollout
from controlplane.tenancy.queries import Asker
from dashboard import figures
from dashboard.diffs import Line, lines_of
from dashboard.forms import Form
from dashboard.rollout_acts import share_words

STRATEGIES = (
    ("rings", "Ring by ring"),
    ("canary", "Canary, its cost beside a baseline of its size, then everybody"),
    ("shadow", "Copies in the shadow first, then canary, then everybody"),
    ("blue_green", "Blue-green: both ready, switched by hand"),
)
_GATES = {"verdict": "goes on by evidence", "manual": "asks a person", "time": "goes on unless it harms"}


def wish_of(form: Form) -> Wish:
    """Return how the release is to go out; ``Invalid`` names the field that is not readable."""
    return Wish(
        strategy=form.text("strategy"),
        rings=_rings(form) if form.text("rings") else (),
        alpha=_number(form, "alpha", 0.01) or 0.01,
        max_error_rate=_percentage(form, "max_error_rate"),
        starts_at=form.moment("starts_at"),
    )


def release_of(asker: Asker, deployment: Deployment, form: Form) -> Release:
    """Return the release that is named, or make the one whose config was typed."""
    if form.text("release"):
        return queries.release_of(deployment, form.text("release"))
    return deployments.create_release(
        by=asker,
        deployment=deployment,
        config=document_of(form, "config"),
        version=form.text("version"),
        notes=form.text("notes"),
    )


def document_of(form: Form, name: str) -> Any:
    """Read a field of JSON; ``Invalid`` says where it stops to be that."""
    try:
        return json.loads(form.text(name))
    except ValueError as error:
        raise Invalid("A document is not readable.", errors={name: f"is not JSON: {error}"}) from None


def _rings(form: Form) -> tuple[RingPlan, ...]:
    said = document_of(form, "rings")
    if not isinstance(said, list):
        raise Invalid("The rings are not readable.", errors={"rings": "must be a list of rings"})
    return tuple(_ring(number, each) for number, each in enumerate(said))


def _ring(number: int, said: Any) -> RingPlan:
    unknown = set(said) - set(RingPlan._fields) if isinstance(said, dict) else {"it"}
    if unknown or not isinstance(said.get("share"), int | float) or "name" not in said:
        unknowns = f": {', '.join(sorted(unknown))}" if unknown else ""
        fault = f"must have a name and a share in percent, and nothing unknown{unknowns}"
        raise Invalid("The rings are not readable.", errors={f"rings[{number}]": fault})
    named = {part: said.get(part, []) for part in ("tenants", "users", "regions")}
    for part, names in named.items():
        if not isinstance(names, list):
            raise Invalid("The rings are not readable.", errors={f"rings[{number}].{part}": "must be a list of names"})
    lists = {part: tuple(names) for part, names in named.items()}
    return RingPlan(**{**said, **lists, "share": round(said["share"] * 10_000)})


def _number(form: Form, name: str, otherwise: float | None = None) -> float | None:
    text = form.text(name)
    if not text:
        return otherwise
    try:
        return float(text)
    except ValueError:
        raise Invalid("A number is not readable.", errors={name: "must be a number"}) from None


def _percentage(form: Form, name: str) -> float | None:
    value = _number(form, name)
    return None if value is None else value / 100


def values_of(rollout: Rollout) -> dict[str, str]:
    """Return what the form says of a rollout that is edited."""
    rings = rollout.plan.rings
    return {
        "release": rollout.release.version,
        "strategy": rollout.strategy,
        "alpha": f"{rollout.alpha:g}",
        "rings": "" if rings == DEFAULTS[rollout.strategy] else rings_text(rings),
        "max_error_rate": "" if rollout.max_error_rate is None else f"{rollout.max_error_rate * 100:g}",
        "starts_at": f"{rollout.starts_at:%Y-%m-%dT%H:%M}" if rollout.starts_at else "",
    }


def rings_text(rings: Sequence[RingPlan]) -> str:
    """Return rings as people edit them: shares in percent, what is empty left out."""
    shown = []
    for ring in rings:
        parts = {name: value for name, value in ring._asdict().items() if value or name == "bake_s"}
        shown.append({**parts, "share": ring.share / 10_000})
    return "[" + ",\n ".join(json.dumps(each, ensure_ascii=False) for each in shown) + "]"


@dataclass(frozen=True)
class Preview:
    """What a form would do. ``rings`` are in words, ``rings_as_json`` to be edited; ``frozen`` says until when nothing begins."""

    errors: Mapping[str, str]
    diff: Sequence[Line]
    rings: Sequence[str]
    rings_as_json: str
    begins: str
    frozen: str


def preview_of(deployment: Deployment, form: Form, now: datetime) -> Preview:
    """Return what would come of the form, without doing any of it."""
    errors: dict[str, str] = {}
    diff: Sequence[Line] = ()
    wish = Wish()
    before = deployment.stable.config if deployment.stable else {}
    try:
        diff = lines_of(before, _config_of(deployment, form, errors))
    except Problem as problem:
        errors |= problem.errors or {"release": problem.detail}
    try:
        wish = wish_of(form)
        errors |= faults_of(wish)
    except Invalid as problem:
        errors |= problem.errors
    return Preview(
        errors,
        diff if any(line.sign != " " for line in diff) else (),
        [ring_words(ring) for ring in rings_of(wish)],
        rings_text(rings_of(wish)) if rings_of(wish) else "",
        _begins(deployment, wish, now),
        queries.frozen(deployment, now=now),
    )


def _config_of(deployment: Deployment, form: Form, errors: dict[str, str]) -> Any:
    if form.text("release"):
        return queries.release_of(deployment, form.text("release")).config
    config = document_of(form, "config")
    errors |= deployments.release_faults(deployment, config, form.text("version"))
    return config


def ring_words(ring: RingPlan) -> str:
    """``Canary: 5 %, goes on by evidence after 2 min, held for a person after 1 h``."""
    says = f"{ring.name}: {share_words(ring)}, {_GATES.get(ring.gate, ring.gate)} after {figures.span(ring.bake_s)}"
    return says if ring.gate == "time" else f"{says}, held for a person after {figures.span(ring.patience_s)}"


def _begins(deployment: Deployment, wish: Wish, now: datetime) -> str:
    late = wish.starts_at is not None and wish.starts_at > now
    when = f"on {wish.starts_at:%Y-%m-%d %H:%M} UTC" if late else "at once"
    return f"After another person’s approval, {when}." if deployment.needs_approval else f"{when[0].upper()}{when[1:]}."
