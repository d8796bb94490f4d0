"""A token bucket that can owe: amounts are estimates that are corrected when the truth is known.

``take`` is for now or not at all, ``reserve`` for the first moment at which there is enough, as in Go's x/time/rate. Rate and
burst are arguments: ``filled`` with the old ones, then go on with the new ones, and nothing is earned or lost by the change.

Times are seconds of any clock. One that stands still or steps back adds nothing; time goes on from where it stepped to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_LEAST = 1e-9  # what rounding may have lost of a token


class Bucket(NamedTuple):
    tokens: float
    at: float
    booked: float = -math.inf  # when the last reservation may act


class Reservation(NamedTuple):
    """``amount`` tokens that may be used from ``at`` on."""

    amount: float
    at: float


def full(burst: float, now: float) -> Bucket:
    return Bucket(burst, now)


def filled(bucket: Bucket, *, now: float, rate: float, burst: float) -> Bucket:
    """Return the bucket as it is at ``now``: ``rate`` tokens a second since ``bucket.at``, at most ``burst``."""
    elapsed = now - bucket.at
    if elapsed <= 0:
        return Bucket(min(burst, bucket.tokens), now, bucket.booked)
    return Bucket(min(burst, bucket.tokens + elapsed * rate), now, bucket.booked)


def take(
    bucket: Bucket, *, now: float, rate: float, burst: float, amount: float = 1.0, strict: bool = False
) -> tuple[Bucket, float]:
    """Take ``amount`` tokens; return the new state and the seconds to wait (0.0 if taken).

    More than ``burst`` can never be there at once. Such an amount is taken from a full bucket, which then owes the
    rest: large calls stay possible and the average still holds. With ``strict`` it is never taken.
    """
    if burst <= 0 or (strict and amount > burst):
        return bucket, math.inf
    tokens = filled(bucket, now=now, rate=rate, burst=burst).tokens
    needed = min(amount, burst)
    if tokens >= needed - _LEAST:
        return Bucket(tokens - amount, now, bucket.booked), 0.0
    return bucket, (needed - tokens) / rate if rate > 0 else math.inf


def reserve(
    bucket: Bucket, *, now: float, rate: float, burst: float, amount: float = 1.0, max_wait: float = math.inf
) -> tuple[Bucket, Reservation | None]:
    """Claim ``amount`` tokens for the first moment at which they are there; ``None`` when that is beyond ``max_wait`` seconds.

    The bucket owes what is not there yet, so that who comes later waits for longer. More than ``burst`` is never there.
    """
    tokens = filled(bucket, now=now, rate=rate, burst=burst).tokens
    missing = amount - tokens
    wait = 0.0
    if missing > _LEAST:
        wait = missing / rate if rate > 0 else math.inf
    if amount > burst or wait > max_wait or wait == math.inf:
        return bucket, None
    at = now + wait
    return Bucket(tokens - amount, now, at), Reservation(amount, at)


def cancel(bucket: Bucket, reservation: Reservation, *, now: float, rate: float, burst: float) -> Bucket:
    """Give a reservation back that has not acted yet, less what later ones were promised on top of it."""
    if reservation.at < now or reservation.amount <= 0:
        return bucket
    promised = (bucket.booked - reservation.at) * rate if bucket.booked > reservation.at else 0.0
    back = reservation.amount - promised
    if back <= 0:
        return bucket
    bucket = filled(bucket, now=now, rate=rate, burst=burst)
    booked = bucket.booked
    if reservation.at == booked and rate > 0:
        booked = reservation.at - reservation.amount / rate  # the one before; in the past: nobody waits any more
    return Bucket(min(burst, bucket.tokens + back), bucket.at, booked)


def correct(bucket: Bucket, *, estimated: float, actual: float, burst: float) -> Bucket:
    """Replace an amount that was taken on an estimate by what it was. A bucket may owe; it never exceeds ``burst``."""
    return Bucket(min(burst, bucket.tokens + estimated - actual), bucket.at, bucket.booked)
