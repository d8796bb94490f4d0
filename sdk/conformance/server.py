"""Subjects that the server decides: what is granted on a lease, and how limits are divided. Vectors for other servers, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from controlplane.domain.carry import Before, CarryRule, carried
from controlplane.domain.grants import Account, Ask, Counters, cap, decide
from controlplane.domain.periods import leaves_window, parse_period, period_of, rolling_cutoff, slot_of
from controlplane.domain.shares import Claim, Holding, give, grant, parts_meant
from sdk.conformance.case import Case
from sdk.conformance.subjects import Subject


def of_grants(case: Case) -> Iterator[Any]:
    lease = Counters()
    path = [Account(**account) for account in case["path"]]
    for step in case["steps"]:
        report = {name: step.get(name, 0) for name in ("settled", "returned", "corrected")}
        before, lease = lease, lease.merge(**report)
        moved = lease.outstanding - before.outstanding
        path = [each.moved(outstanding=moved, settled=lease.charged - before.charged) for each in path]
        ask = Ask(step["want"], step["min_useful"], step.get("held", 0))
        given = decide(lease, ask, path)
        before, lease = lease, lease._replace(granted=lease.granted + given.amount)
        path = [each.moved(outstanding=lease.outstanding - before.outstanding, settled=0) for each in path]
        yield {
            "granted": lease.granted,
            "blocked_by": given.blocked_by,
            "cap": cap(ask, path),
            "exposed": [each.outstanding + each.settled for each in path],
        }


def of_shares(case: Case) -> Iterator[Any]:
    holdings = [Holding(0.0) for _ in range(case.get("instances", 0))]
    for step in case["steps"]:
        match step["do"]:
            case "parts":
                yield {"parts": parts_meant(step["capacity"], step["demands"])}
            case "grant":
                claims = [Claim(**claim) for claim in step["claims"]]
                yield {"gets": grant(step["algorithm"], step["capacity"], claims, step["index"])}
            case "sync":
                index = step["instance"]
                holdings[index] = holdings[index].acknowledged(step["share"])._replace(demand=step["per_s"])
                holdings[index] = give(holdings, index, capacity=case["capacity"], whole=case["whole"])
                yield {"share": holdings[index].promised, "in_force": sum(each.in_force for each in holdings)}


def of_periods(case: Case) -> Iterator[Any]:
    rule = parse_period(case["period"]) if "period" in case else None
    for step in case["steps"]:
        if rule is None:
            carry = CarryRule(case["carry_up_to"], case["carries_debt"])
            yield {"carried": carried(carry, Before(step["amount"], step["exposure"]))}
            continue
        now = datetime.fromisoformat(step["at"])
        period = period_of(rule, now)
        said = {"key": period.key, "starts_at": _text(period.starts_at), "ends_at": _text(period.ends_at)}
        if rule.days is not None:
            slot = slot_of(rule.days, now)
            said |= {
                "slot": _text(slot),
                "leaves_at": _text(leaves_window(rule.days, slot)),
                "since": _text(rolling_cutoff(rule.days, now)),
            }
        yield said


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


SERVER: dict[str, Subject] = {"grants": of_grants, "periods": of_periods, "shares": of_shares}
