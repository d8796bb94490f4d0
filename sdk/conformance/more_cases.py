"""More of what is given in the vectors: requests, reservations, fallbacks, periods."""

from __future__ import annotations

from typing import Any

Case = dict[str, Any]
Step = dict[str, Any]


def _case(name: str, *steps: Step, **given: Any) -> Case:
    return {"name": name, **given, "steps": list(steps)}


def _requests() -> list[Case]:
    def read(**request: Any) -> Step:
        return {"do": "read", "request": request}

    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Naïve café — 東京?"}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400}}
    return [
        _case("chat completions", read(model="gpt-4o-mini", messages=talk), read(model="m", messages=talk, max_tokens=100),
              read(model="m", messages=talk, max_completion_tokens=100, n=3, stream=True), read(messages=[], max_tokens=0)),
        _case("responses, completions, embeddings", read(model="m", input="Hello", instructions="Be brief.", max_output_tokens=7),
              read(model="m", prompt=["one", "two"], max_tokens=5), read(model="m", input=["a" * 300, "b"]),
              read(model="m", input=[[1, 2, 3], [4, 5]])),
        _case("messages with tools", read(model="claude", system="Be brief.", messages=talk, max_tokens=50,
              tools=[{"name": "f", "input_schema": {"type": "object", "properties": {"x": {"type": "number"}}}}])),
        _case("generateContent and converse",
              read(contents=[{"role": "user", "parts": [{"text": "Hello"}]}], generationConfig={"maxOutputTokens": 20}),
              read(modelId="amazon.nova", messages=[{"role": "user", "content": [{"text": "Hello"}]}], inferenceConfig={"maxTokens": 9})),
        _case("what is attached counts as a page, not as its bytes",
              read(model="m", messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}])),
        _case("nothing that says anything", read(), read(model=5, messages=None, max_tokens=True, stream="yes")),
    ]  # fmt: skip


def _reservations() -> list[Case]:
    def learn(*tokens: int, times: int = 1) -> Step:
        return {"do": "learn", "tokens": list(tokens), "times": times}

    return [
        _case("too few calls tell nothing", learn(5, times=29), learn(5)),
        _case("one in a thousand is huge", learn(100, times=999), learn(100_000), learn(100, times=16)),
        _case("two in a hundred are", learn(100, times=98), learn(100_000, times=2), learn(0, times=16)),
        _case("it is reckoned anew after sixteen calls", learn(10, times=30), learn(1000, times=15), learn(1000)),
        _case("the generation before last is forgotten", learn(10_000, times=100), learn(10, times=1999), learn(10, times=16)),
        _case("calls that put out nothing", learn(0, times=40)),
    ]  # fmt: skip


def _fallbacks() -> list[Case]:
    def order(*fallbacks: Step) -> Step:
        return {"do": "order", "fallbacks": list(fallbacks)}

    return [
        _case("each route once, never itself", order({"route": "small"}, {"route": "chat"}, {"route": "small"}, {"route": "other"}),
              order({"route": "chat"}), order(), route="chat"),
        _case("nothing after a value", order({"route": "small"}, {"value": {"text": "busy"}}, {"route": "other"}),
              order({"value": None}, {"value": 1}), route="chat"),
    ]  # fmt: skip


def _periods() -> list[Case]:
    def at(*times: str) -> list[Step]:
        return [{"do": "period", "at": time} for time in times]

    def carry(amount: int, exposure: int) -> Step:
        return {"do": "carry", "amount": amount, "exposure": exposure}

    def calendar(unit: str, timezone: str = "UTC") -> Step:
        return {"kind": "calendar", "unit": unit, "timezone": timezone}

    return [
        _case("hours", *at("2026-11-25T13:59:59.999999Z", "2026-11-25T14:00:00Z"), period=calendar("hour")),
        _case("hours where clocks are half an hour off", *at("2026-11-25T13:29:59Z", "2026-11-25T13:30:00Z"),
              period=calendar("hour", "Asia/Kolkata")),
        _case("the hour that comes twice", *at("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"),
              period=calendar("hour", "Europe/Berlin")),
        _case("days of 23 and of 25 hours", *at("2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z",
              "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"), period=calendar("day", "Europe/Berlin")),
        _case("a day that was left out", *at("2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z"), period=calendar("day", "Pacific/Apia")),
        _case("a midnight that is not there", *at("2018-11-04T02:59:59Z", "2018-11-04T03:00:00Z"),
              period=calendar("day", "America/Sao_Paulo")),
        _case("weeks begin on Mondays and are named by ISO 8601", *at("2026-12-31T12:00:00Z", "2027-01-03T23:59:59Z",
              "2027-01-04T00:00:00Z"), period=calendar("week")),
        _case("months", *at("2028-02-29T23:59:59Z", "2028-03-01T00:00:00Z", "2026-12-31T23:30:00Z"), period=calendar("month")),
        _case("months somewhere else", *at("2026-12-31T23:30:00Z", "2026-12-31T14:59:59Z"), period=calendar("month", "Asia/Tokyo")),
        _case("years", *at("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"), period=calendar("year")),
        _case("all of time", *at("1999-01-01T00:00:00Z"), period={"kind": "total"}),
        _case("a rolling window: the slot of a charge, when that leaves, and since when slots count",
              *at("2026-11-25T13:02:59Z", "2026-11-25T13:04:00Z"), period={"kind": "rolling", "days": 1}),
        _case("thirty days", *at("2026-11-25T13:02:59Z"), period={"kind": "rolling", "days": 30}),
        _case("what is carried over", carry(1000, 400), carry(1000, 900), carry(1000, 1000), carry(1000, 1300),
              carry_up_to=300, carries_debt=False),
        _case("debts are", carry(1000, 400), carry(1000, 1300), carry(-500, 100), carry_up_to=0, carries_debt=True),
    ]  # fmt: skip


ABOUT = {
    "fallbacks": "What stands in for a call on `route`, in the order in which it is tried.",
    "periods": "Periods of budgets: key and bounds in UTC, `ends_at` excluded; what one takes along from the one before, in nano-USD.",
    "requests": "What a request to a provider asks for: model, about how many tokens go in, how many may come out (null: no limit).",
    "reservations": "What calls used to put out, in tokens: a call that need not hold the worst case holds `bound` (null: too little is known).",
}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {
        "fallbacks": _fallbacks(),
        "periods": _periods(),
        "requests": _requests(),
        "reservations": _reservations(),
    }
