"""What a process hears of a call that is over: that it did cost less than presumed, or more than anybody knew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.swift import Flight
from tidegate.amending import take
from tidegate.ticket import Usage

if TYPE_CHECKING:
    from tests.simulation.process import Job, Process
    from tidegate.leasing import Slip


def hear(process: Process, job: Job | Flight, cost: int, more: int) -> None:
    """A call that is over did cost ``cost``, and is billed ``more``: its process says so, while its lease is still spoken of."""
    slip = job.slip
    if job.stage != "over" or slip is None or process.guard.leases.slips.get(slip.number) is not slip:
        return
    beyond = max(0, cost + more - job.cost)
    job.cost += beyond
    process.spent += beyond
    _bill(process, slip, more, beyond)
    if isinstance(job, Flight):
        job.hear_late(cost + more)
    else:
        take(process.guard, job, Usage(1, 1, 0, cost + more, None), None)


def _bill(process: Process, slip: Slip, amount: int, beyond: int) -> None:
    """Have it be true: so much more was billed, ``beyond`` of it on top of what the call was settled at."""
    truth = process.world.truth
    key, now = (process.incarnation, slip.number), truth.server_time()
    held, lease = truth.held[key], truth.store.leases.get(key)
    truth.costs.add(slip, amount)
    held.settled += beyond
    held.over += beyond
    held.ended_at, held.checked = now, None
    for account in lease.path if lease else ():
        bill = truth.bill(account)
        bill.over += beyond
        bill.add(amount, now, now)
        truth.check_liability(account)
