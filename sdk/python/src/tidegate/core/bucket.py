"""A token bucket that can owe: amounts are estimates that are corrected when the truth is known.

Times are seconds of any clock; one that stands still or steps back adds nothing and takes nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Bucket(NamedTuple):
    tokens: float
    at: float


def full(burst: float, now: float) -> Bucket:
    return Bucket(burst, now)


def filled(bucket: Bucket, *, now: float, rate: float, burst: float) -> Bucket:
    """Return the bucket as it is at ``now``: ``rate`` tokens a second since ``bucket.at``, at most ``burst``."""
    elapsed = now - bucket.at
    if elapsed <= 0:
        return Bucket(min(burst, bucket.tokens), bucket.at)
    return Bucket(min(burst, bucket.tokens + elapsed * rate), now)


def take(bucket: Bucket, *, now: float, rate: float, burst: float, amount: float = 1.0) -> tuple[Bucket, float]:
    """Take ``amount`` tokens; return the new state and the seconds to wait (0.0 if taken).

    More than ``burst`` can never be there at once. Such an amount is taken from a full bucket, which then owes the
    rest: large calls stay possible and the average still holds.
    """
    bucket = filled(bucket, now=now, rate=rate, burst=burst)
    if burst <= 0:
        return bucket, float("inf")
    needed = min(amount, burst)
    if bucket.tokens >= needed - 1e-9:
        return Bucket(bucket.tokens - amount, bucket.at), 0.0
    return bucket, (needed - bucket.tokens) / rate if rate > 0 else float("inf")


def correct(bucket: Bucket, *, estimated: float, actual: float, burst: float) -> Bucket:
    """Replace an amount that was taken on an estimate by what it was. A bucket may owe; it never exceeds ``burst``."""
    return Bucket(min(burst, bucket.tokens + estimated - actual), bucket.at)
