"""What a person may do to a rollout now, as buttons; and a ring in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from controlplane.domain.rollout import RingPlan
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.queries import authors_of
from tidegate.core.bucketing import PARTS

EXTENSIONS = ((1800, "30 min"), (14_400, "4 h"))


@dataclass(frozen=True)
class Button:
    """``do`` is what the form sends: the verb, the rollout, the version that is looked at, and seconds where it takes some.

    ``not_for`` are the people who may not, whatever their role. Frames are the same for all, so their own browsers take
    the button away from them (``static/js/persons.js``).
    """

    do: str
    label: str
    look: str
    confirm: str = ""
    not_for: Sequence[str] = ()

    @property
    def not_for_json(self) -> str:
        return json.dumps(list(self.not_for))


@dataclass(frozen=True)
class Acts:
    """``main`` is at hand, the safest first; ``more`` is behind a menu. ``edits``: it has not begun, and may be edited."""

    main: Sequence[Button] = ()
    more: Sequence[Button] = ()
    edits: bool = False


def named(ring: RingPlan) -> bool:
    """Whether a ring is for some in particular."""
    return bool(ring.tenants or ring.users or ring.regions)


def share_words(ring: RingPlan) -> str:
    """``2 tenants``, ``5 %``, ``50 % of 2 tenants``, ``copies of 5 %``."""
    share = f"{'copies of ' if ring.shadow else ''}{ring.share / 10_000:g} %"
    parts = [
        f"{len(names)} {word}{'s' if len(names) != 1 else ''}"
        for word, names in (("tenant", ring.tenants), ("user", ring.users), ("region", ring.regions))
        if names
    ]
    if not parts:
        return share
    who = ", ".join(parts)
    return who if ring.share == PARTS and not ring.shadow else f"{share} of {who}"


def acts_of(rollout: Rollout) -> Acts:
    """Return what a person may do to a rollout now."""
    match rollout.phase:
        case "draft":
            return Acts([_button(rollout, "start", _beginning(rollout), "main"), _abort(rollout)], edits=True)
        case "approval":
            return Acts([_approval(rollout), _abort(rollout)], edits=True)
        case "scheduled":
            return Acts([_abort(rollout)], edits=True)
        case "promoting":
            return Acts([_back(rollout)])
        case "complete":
            goes_back = rollout.deployment.stable_id == rollout.release_id and rollout.previous.bad_at is None
            return Acts([_back(rollout)] if goes_back else [])
        case "aborted":
            return Acts([] if rollout.release.bad_at else [_button(rollout, "retry", "Try again")])
        case "rolled_back":
            return Acts()
    return _sides(rollout) if rollout.strategy == "blue_green" else _on_its_way(rollout)


def _button(rollout: Rollout, verb: str, label: str, look: str = "", confirm: str = "", seconds: int = 0) -> Button:
    more = f":{seconds}" if seconds else ""
    return Button(f"{verb}:{rollout.pk}:{rollout.version}{more}", label, look, confirm)


def _approval(rollout: Rollout) -> Button:
    return replace(_button(rollout, "approve", "Approve", "main"), not_for=sorted(authors_of(rollout)))


def _beginning(rollout: Rollout) -> str:
    return "Submit for approval" if rollout.deployment.needs_approval else "Start"


def _name(rollout: Rollout) -> str:
    return f"{rollout.deployment.slug} {rollout.release.version}"


def _back(rollout: Rollout) -> Button:
    confirm = (
        f"Roll back {_name(rollout)}? Everybody gets {rollout.previous.version} within a second, and "
        f"{rollout.release.version} is marked bad: it is never returned to."
    )
    return _button(rollout, "rollback", "Roll back", "risk", confirm)


def _abort(rollout: Rollout) -> Button:
    confirm = f"Abort {_name(rollout)}? Everybody gets {rollout.previous.version}; the release is not blamed."
    return _button(rollout, "abort", "Abort", "", confirm)


def _sides(rollout: Rollout) -> Acts:
    if not rollout.flipped:
        switch = _button(rollout, "switch", f"Switch to {rollout.release.version}", "main")
        return Acts([switch, _abort(rollout), _back(rollout)])
    switch = _button(rollout, "switch", f"Switch back to {rollout.previous.version}", "main")
    confirm = f"Keep {_name(rollout)} for good? The other side is let go."
    return Acts([switch, _button(rollout, "promote_fully", "Keep it", "", confirm), _back(rollout)], [_abort(rollout)])


def _on_its_way(rollout: Rollout) -> Acts:
    running = rollout.phase == "running"
    hand = _button(rollout, "pause", "Pause") if running else _button(rollout, "resume", "Resume", "main")
    return Acts([_back(rollout), hand, _promotion(rollout)], [*_more(rollout), _abort(rollout)])


def _promotion(rollout: Rollout) -> Button:
    rings = rollout.plan.rings
    following = rings[rollout.ring + 1] if rollout.ring + 1 < len(rings) else None
    target = share_words(following) if following else "everybody"
    if rollout.asks:
        return _button(rollout, "approve", f"Approve {target}", "main")
    confirm = f"Promote {_name(rollout)} to {target} now, whatever the evidence says?"
    return _button(rollout, "promote", f"Promote to {target}", "", confirm)


def _more(rollout: Rollout) -> list[Button]:
    found = [_button(rollout, "extend", f"Extend by {words}", seconds=seconds) for seconds, words in EXTENSIONS]
    if rollout.phase in {"running", "held"} and not rollout.asks:
        confirm = f"Skip what is left of this ring of {_name(rollout)}? Its gate stays: a manual one still asks."
        found.append(_button(rollout, "skip", "Skip the rest of this ring", "", confirm))
    confirm = f"Promote {_name(rollout)} to everybody now, whatever the evidence says?"
    found.append(_button(rollout, "promote_fully", "Promote to everybody", "", confirm))
    if rollout.phase == "held":
        confirm = f"Begin {_name(rollout)} again at its first ring, with fresh evidence?"
        found.append(_button(rollout, "retry", "Begin again", "", confirm))
    return found
