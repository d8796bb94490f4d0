"""What is given in the vectors of money and of limits that a fleet shares: leases, grants, periods, parts."""

from __future__ import annotations

from typing import Any

from sdk.conformance.case import Case, Step, case


def _leases() -> list[Case]:
    def hold(bound: int) -> Step:
        return {"do": "hold", "bound": bound}

    def settle(bound: int, cost: int) -> Step:
        return {"do": "settle", "bound": bound, "cost": cost}

    return [
        case("held, settled, asked for again", hold(1), {"do": "grant", "granted": 100}, hold(60), hold(41), hold(40), settle(60, 25),
              settle(40, 55), hold(21), hold(20)),
        case("answers come late and twice", {"do": "grant", "granted": 100}, {"do": "grant", "granted": 60},
              {"do": "grant", "granted": 100}, {"do": "grant", "granted": 130}),
        case("what is idle goes back", {"do": "grant", "granted": 100}, hold(30), {"do": "cap", "idle": 50}, {"do": "cap", "idle": 0},
              settle(30, 10), {"do": "cap", "idle": 0}),
        case("only watched", {"do": "hold_unfunded", "bound": 10}, settle(10, 12), hold(1)),
        case("the pace and what to ask for", {"do": "grant", "granted": 10**9}, {"do": "pace", "at": 0}, hold(500), settle(500, 500),
              {"do": "pace", "at": 0.1}, {"do": "pace", "at": 1}, {"do": "want", "interval_s": 1, "denied": 7, "typical": 3},
              {"do": "pace", "at": 6}, {"do": "want", "interval_s": 1, "denied": 0, "typical": 3}),
    ]  # fmt: skip


def _grants() -> list[Case]:
    def report(want: int, min_useful: int = 1, **more: int) -> Step:
        return {"want": want, "min_useful": min_useful, **more}

    def account(amount: int, **more: Any) -> dict[str, Any]:
        return {"amount": amount, "outstanding": 0, "settled": 0, **more}

    return [
        case("slices of what is left", *[report(1000, settled=settled) for settled in (0, 200, 390, 500, 600, 700)], path=[account(1000)]),
        case("the tightest account decides", report(100), report(100, settled=20), report(100, 90, settled=25, held=1),
              path=[account(500), account(60)]),
        case("an account that only warns", report(100), report(100, settled=150), path=[account(10, blocks=False)]),
        case("calls cost more than their bounds", report(50), report(50, settled=80), report(50, settled=80), path=[account(1000)]),
        case("a lowered amount takes back what is idle", report(50), report(50, settled=10, held=5), path=[account(40, settled=35)]),
        case("archived", report(50), path=[account(1000, archived=True, blocks=False)]),
        case("settled by mistake", report(50), report(50, settled=40), report(50, settled=40, corrected=30), path=[account(60)]),
    ]  # fmt: skip


def _periods() -> list[Case]:
    def at(*times: str) -> list[Step]:
        return [{"do": "period", "at": time} for time in times]

    def carry(amount: int, exposure: int) -> Step:
        return {"do": "carry", "amount": amount, "exposure": exposure}

    def calendar(unit: str, timezone: str = "UTC") -> Step:
        return {"kind": "calendar", "unit": unit, "timezone": timezone}

    return [
        case("hours", *at("2026-11-25T13:59:59.999999Z", "2026-11-25T14:00:00Z"), period=calendar("hour")),
        case("hours where clocks are half an hour off", *at("2026-11-25T13:29:59Z", "2026-11-25T13:30:00Z"),
              period=calendar("hour", "Asia/Kolkata")),
        case("the hour that comes twice", *at("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"),
              period=calendar("hour", "Europe/Berlin")),
        case("days of 23 and of 25 hours", *at("2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z",
              "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"), period=calendar("day", "Europe/Berlin")),
        case("a day that was left out", *at("2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z"), period=calendar("day", "Pacific/Apia")),
        case("a midnight that is not there", *at("2018-11-04T02:59:59Z", "2018-11-04T03:00:00Z"),
              period=calendar("day", "America/Sao_Paulo")),
        case("weeks begin on Mondays and are named by ISO 8601", *at("2026-12-31T12:00:00Z", "2027-01-03T23:59:59Z",
              "2027-01-04T00:00:00Z"), period=calendar("week")),
        case("months", *at("2028-02-29T23:59:59Z", "2028-03-01T00:00:00Z", "2026-12-31T23:30:00Z"), period=calendar("month")),
        case("months somewhere else", *at("2026-12-31T23:30:00Z", "2026-12-31T14:59:59Z"), period=calendar("month", "Asia/Tokyo")),
        case("years", *at("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"), period=calendar("year")),
        case("all of time", *at("1999-01-01T00:00:00Z"), period={"kind": "total"}),
        case("a rolling window: the slot of a charge, when that leaves, and since when slots count",
              *at("2026-11-25T13:02:59Z", "2026-11-25T13:04:00Z"), period={"kind": "rolling", "days": 1}),
        case("thirty days", *at("2026-11-25T13:02:59Z"), period={"kind": "rolling", "days": 30}),
        case("what is carried over", carry(1000, 400), carry(1000, 900), carry(1000, 1000), carry(1000, 1300),
              carry_up_to=300, carries_debt=False),
        case("debts are", carry(1000, 400), carry(1000, 1300), carry(-500, 100), carry_up_to=0, carries_debt=True),
    ]  # fmt: skip


def _shares() -> list[Case]:
    def sync(instance: int, per_s: float, share: float) -> Step:
        return {"do": "sync", "instance": instance, "per_s": per_s, "share": share}

    def grant(algorithm: str, capacity: float, index: int, *claims: tuple[float, float, float]) -> Step:
        told = [{"wants": wants, "weight": weight, "has": has} for wants, weight, has in claims]
        return {"do": "grant", "algorithm": algorithm, "capacity": capacity, "index": index, "claims": told}

    three = ((1000.0, 1.0, 0.0), (60.0, 1.0, 0.0), (10.0, 1.0, 0.0))
    return [
        case("parts by demand", *[{"do": "parts", "capacity": capacity, "demands": demands} for capacity in (0, 100)
              for demands in ([0], [5], [0, 0], [30, 10], [1000, 20, 30], [1, 2, 3])]),
        case("one gives way, the other gets it", sync(0, 30, 0), sync(1, 10, 0), sync(0, 30, 1.0), sync(1, 10, 0), sync(0, 30, 0.725),
              sync(1, 10, 0), sync(1, 10, 0.275), instances=2, capacity=0, whole=False),
        case("an answer is lost", sync(0, 90, 0), sync(1, 90, 0), sync(0, 90, 1.0), sync(0, 90, 1.0), sync(1, 90, 0), sync(0, 90, 0.5),
              sync(1, 90, 0), instances=2, capacity=100, whole=False),
        case("whole slots", sync(0, 9, 0), sync(1, 9, 0), sync(2, 9, 0), sync(0, 9, 1.0), sync(0, 9, 1 / 4), sync(1, 9, 0),
              sync(2, 9, 0), instances=3, capacity=4, whole=True),
        case("grants", *[grant("fair_share", 120, index, *three) for index in range(3)],
              *[grant("proportional_share", 120, index, *three) for index in range(3)],
              grant("fair_share", 120, 1, (1000, 6, 100), (500, 4, 0), (200, 2, 0)), grant("static_per_client", 50, 0, *three),
              grant("none", 0, 0, *three)),
    ]  # fmt: skip


ABOUT = {
    "grants": "What the server grants on a lease. Each step is a report; the path is leaf first; amounts are nano-USD.",
    "leases": "The SDK's side of a lease. `counters` are granted, settled, returned, corrected, held; amounts are nano-USD.",
    "periods": "Periods of budgets: key and bounds in UTC, `ends_at` excluded; what one takes along from the one before, in nano-USD.",
    "shares": "Dividing a fleet's limit. A sync says which share the instance uses and what it asks for.",
}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {"grants": _grants(), "leases": _leases(), "periods": _periods(), "shares": _shares()}
