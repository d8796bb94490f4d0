"""The demo's rollouts, on a loop: one release that is subtly worse, one that is better, one that is costlier.

What becomes of each is the product's own verdict; a person may take part with the buttons of the page.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.domain.rollout import ENDED, RingPlan
from controlplane.problems import Problem
from controlplane.rollouts.actions.deployments import Description, create_deployment, create_release
from controlplane.rollouts.actions.rollouts import Wish, act, create_rollout
from controlplane.rollouts.models import Deployment, Rollout
from controlplane.runtime.demo import world
from controlplane.runtime.demo.seed import DEMO
from controlplane.tenancy.models import Tenant
from tidegate.core.bucketing import PARTS

REST = timedelta(seconds=45)
GIVEN_UP_AFTER = timedelta(seconds=120)
RINGS = (
    RingPlan("Canary", 250_000, bake_s=30, patience_s=900),
    RingPlan("Everyone", PARTS, bake_s=20, patience_s=20, gate="time"),
)
NOTES = {
    world.STRICT: "Asks for JSON. Fails five times as often, which is hard to see by eye.",
    world.TERSE: "Answers in one word: fewer errors, cheaper.",
    world.VERBOSE: "Explains itself: as good, but dearer.",
}


def steer(now: datetime) -> None:
    """Do the next thing: make the deployment, begin the next rollout, or give up one that nobody decides."""
    deployment = Deployment.objects.filter(slug=world.TRIAGE).first() or _deployed()
    if deployment is None or deployment.archived_at is not None:
        return
    last = deployment.rollouts.order_by("-id").select_related("deployment").first()
    try:
        if last is None or (last.phase in ENDED and last.ended_at is not None and now - last.ended_at > REST):
            _begin(deployment, now)
        elif last.phase == "held" and _waited(last, now) > GIVEN_UP_AFTER:
            act(
                by=DEMO,
                rollout=last,
                verb="abort",
                expected_version=last.version,
                now=now,
                reason="demo: nobody decided",
            )
    except Problem:
        pass  # somebody was faster, or a freeze is on: the next look finds out


def _waited(rollout: Rollout, now: datetime) -> timedelta:
    event = rollout.events.order_by("-id").first()
    return now - event.at if event is not None else timedelta(0)


def _deployed() -> Deployment | None:
    tenant = Tenant.objects.filter(slug=world.ROOT, is_demo=True, archived_at=None).first()
    if tenant is None:
        return None
    description = Description(routes=(world.TRIAGE_ROUTE,), unit="request")
    made = create_deployment(by=DEMO, slug=world.TRIAGE, tenant=tenant, description=description)
    create_release(
        by=DEMO, deployment=made, version="1.0.0", config=_config(world.PLAIN, 1), notes="Where it all began."
    )
    made.refresh_from_db()
    return made


def _config(prompt: str, number: int) -> dict[str, object]:
    return {"model": world.TRIAGE_MODEL, "prompt": prompt, "prompt_version": number, "temperature": 0.2}


def _begin(deployment: Deployment, now: datetime) -> None:
    number = deployment.releases.count() + 1
    prompt = world.RELEASES[(number - 2) % len(world.RELEASES)]
    release = create_release(
        by=DEMO, deployment=deployment, version=f"1.{number - 1}.0", config=_config(prompt, number), notes=NOTES[prompt]
    )
    create_rollout(by=DEMO, deployment=deployment, release=release, wish=Wish(rings=RINGS), now=now, start=True)
