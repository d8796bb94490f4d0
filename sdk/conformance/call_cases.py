"""What is given in the vectors of a call: what it asks for, whose fault an answer is, when it is tried again, what stands in."""

from __future__ import annotations

from typing import Any

from sdk.conformance.case import Case, Step, case


def _requests() -> list[Case]:
    def read(**request: Any) -> Step:
        return {"do": "read", "request": request}

    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Naïve café — 東京?"}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400}}
    return [
        case("chat completions", read(model="gpt-4o-mini", messages=talk), read(model="m", messages=talk, max_tokens=100),
              read(model="m", messages=talk, max_completion_tokens=100, n=3, stream=True), read(messages=[], max_tokens=0)),
        case("responses, completions, embeddings", read(model="m", input="Hello", instructions="Be brief.", max_output_tokens=7),
              read(model="m", prompt=["one", "two"], max_tokens=5), read(model="m", input=["a" * 300, "b"]),
              read(model="m", input=[[1, 2, 3], [4, 5]])),
        case("messages with tools", read(model="claude", system="Be brief.", messages=talk, max_tokens=50,
              tools=[{"name": "f", "input_schema": {"type": "object", "properties": {"x": {"type": "number"}}}}])),
        case("generateContent and converse",
              read(contents=[{"role": "user", "parts": [{"text": "Hello"}]}], generationConfig={"maxOutputTokens": 20}),
              read(modelId="amazon.nova", messages=[{"role": "user", "content": [{"text": "Hello"}]}], inferenceConfig={"maxTokens": 9})),
        case("what is attached counts as a page, not as its bytes",
              read(model="m", messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}])),
        case("nothing that says anything", read(), read(model=5, messages=None, max_tokens=True, stream="yes")),
    ]  # fmt: skip


def _reservations() -> list[Case]:
    def learn(*tokens: int, times: int = 1) -> Step:
        return {"do": "learn", "tokens": list(tokens), "times": times}

    return [
        case("too few calls tell nothing", learn(5, times=29), learn(5)),
        case("one in a thousand is huge", learn(100, times=999), learn(100_000), learn(100, times=16)),
        case("two in a hundred are", learn(100, times=98), learn(100_000, times=2), learn(0, times=16)),
        case("it is reckoned anew after sixteen calls", learn(10, times=30), learn(1000, times=15), learn(1000)),
        case("the generation before last is forgotten", learn(10_000, times=100), learn(10, times=1999), learn(10, times=16)),
        case("calls that put out nothing", learn(0, times=40)),
    ]  # fmt: skip


def _faults() -> list[Case]:
    statuses = (400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504, 529)
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    after: list[Step] = [
        {"do": "read", "status": 429, "headers": {"retry-after": "1.5"}},
        {"do": "read", "status": 429, "headers": {"retry-after": "-1"}},
        {"do": "read", "status": 429, "headers": {"retry-after": "soon"}},
        {"do": "read", "status": 503, "headers": {"retry-after": date, "date": "Sun, 06 Nov 1994 08:49:07 GMT"}},
        {"do": "read", "status": 503, "headers": {"retry-after": date}, "wall_s": 784111770.5},
        {"do": "read", "status": 503, "headers": {"retry-after": date}, "wall_s": 784111800},
        {"do": "read", "status": 503, "headers": {"retry-after": date}},
    ]
    dates = (
        date,
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sat, 31 Dec 2016 23:59:60 GMT",
        "31 Feb 1994",
        "120",
    )
    return [
        case("whose fault a status is", *[{"do": "read", "status": status} for status in statuses]),
        case("when to come back", *after),
        case("dates of HTTP", *[{"do": "date", "text": text} for text in dates]),
    ]


def _backoff() -> list[Case]:
    uniforms = (0.0, 0.25, 0.5, 0.999999)
    cases = []
    for jitter in ("none", "full", "equal", "decorrelated", "quarter", "half"):
        steps: list[Step] = [
            {"do": "delay", "retry": retry, "uniform": uniform, "previous_s": previous}
            for retry, previous in ((1, 0.0), (2, 0.2), (3, 0.5), (7, 6.0), (10000, 8.0)) for uniform in uniforms
        ]  # fmt: skip
        steps += [{"do": "delay", "retry": 2, "uniform": u, "retry_after_s": 60} for u in uniforms]
        steps += [{"do": "delay", "retry": 5, "uniform": u, "retry_after_s": 0.001} for u in uniforms]
        cases.append(case(f"jitter {jitter}", *steps, retry={"base_ms": 200, "max_ms": 8000, "jitter": jitter}))
    for growth, factor in (("linear", 2), ("exponential", 1), ("exponential", 1.5), ("exponential", 10)):
        rule = {"base_ms": 200, "max_ms": 8000, "jitter": "none", "growth": growth, "factor": factor}
        steps = [{"do": "delay", "retry": retry, "uniform": 0.0} for retry in (1, 2, 3, 7, 10000)]
        cases.append(case(f"growth {growth} by {factor}", *steps, retry=rule))
    deadlines: list[Step] = [
        {"do": "fits", "delay_s": delay, "left_s": left}
        for delay, left in ((1.0, 2.0), (2.0, 2.0), (2.0, 0.0), (120.0, None), (120.5, None))
    ]
    budget: list[Step] = [
        *[{"do": "retry"}] * 11,
        {"do": "call", "times": 4},
        {"do": "retry"},
        {"do": "call"},
        {"do": "retry"},
    ]
    return [
        *cases,
        case("an attempt must begin before the deadline", *deadlines, retry={}),
        case("retries and hedges are a fraction of calls", *budget, retry={"budget_ratio": 0.2}),
        case("no retries", {"do": "call", "times": 100}, {"do": "retry"}, retry={"budget_ratio": 0.0}),
    ]


def _fallbacks() -> list[Case]:
    def order(*fallbacks: Step) -> Step:
        return {"do": "order", "fallbacks": list(fallbacks)}

    return [
        case("each route once, never itself", order({"route": "small"}, {"route": "chat"}, {"route": "small"}, {"route": "other"}),
              order({"route": "chat"}), order(), route="chat"),
        case("nothing after a value", order({"route": "small"}, {"value": {"text": "busy"}}, {"route": "other"}),
              order({"value": None}, {"value": 1}), route="chat"),
    ]  # fmt: skip


ABOUT = {
    "backoff": "Delays of retries with given uniforms, deadlines, and the budget that retries and hedges share.",
    "fallbacks": "What stands in for a call on `route`, in the order in which it is tried.",
    "faults": "What a provider's answer says: kind, whose fault, whether billed, whether to try again, when.",
    "requests": "What a request to a provider asks for: model, about how many tokens go in, how many may come out (null: no limit).",
    "reservations": "What calls used to put out, in tokens: a call that need not hold the worst case holds `bound` (null: too little is known).",
}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {
        "backoff": _backoff(),
        "fallbacks": _fallbacks(),
        "faults": _faults(),
        "requests": _requests(),
        "reservations": _reservations(),
    }
