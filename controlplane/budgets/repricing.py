"""What another price book would make of past usage. Reads only: nothing that was charged changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from controlplane.budgets.models import PriceBook
from controlplane.budgets.pricing import compiled
from controlplane.problems import NotFound
from controlplane.telemetry.queries.priced import Charged, charged
from controlplane.tenancy.queries import Asker
from tidegate.core.price import PriceBook as Prices


@dataclass(frozen=True, kw_only=True)
class Repriced:
    """One model's usage at the prices that it was charged at, and at those of another book.

    ``tiers``: the model has prices that depend on the size of a call, which days don't tell; the lowest tier was taken.
    ``unpriced``: the book has no price for the model; what it says of unknown models was taken. Calls without a model said
    themselves what they cost: that stays.
    """

    model: str
    calls: int
    usage: Mapping[str, int]
    charged_nusd: int
    repriced_nusd: int
    tiers: bool
    unpriced: bool

    @property
    def difference_nusd(self) -> int:
        return self.repriced_nusd - self.charged_nusd


@dataclass(frozen=True, kw_only=True)
class Repricing:
    """A comparison of what was charged between two days, both included, with what ``book`` would have charged."""

    book: str
    source: str
    first_day: date
    last_day: date
    models: list[Repriced]


def reprice(
    asker: Asker, *, book: str, today: date, days: int = 30, tenant: str | None = None, charged_by: str | None = None
) -> Repricing:
    """Return what the book of that etag (``newest`` for the newest) would make of the usage of the last ``days`` UTC days.

    ``charged_by`` takes only what was charged by the book of that etag. The models that change most are first. ``NotFound`` when
    there is no such book.
    """
    books = PriceBook.objects.order_by("-id").defer("body")
    other = books.first() if book == "newest" else books.filter(etag__startswith=book).first() if book else None
    if other is None:
        raise NotFound(f"There is no price book {book!r}.")
    _, prices = compiled(other.etag)
    first = today - timedelta(days=days - 1)
    found = charged(asker, first_day=first, last_day=today, tenant=tenant, book=charged_by)
    models = sorted(
        (_repriced(prices, each) for each in found), key=lambda each: (-abs(each.difference_nusd), each.model)
    )
    return Repricing(book=other.etag, source=other.source, first_day=first, last_day=today, models=models)


def _repriced(prices: Prices, was: Charged) -> Repriced:
    priced = prices.priced(was.model)
    if not was.model:
        cost, tiers = was.cost_nusd, False
    elif priced is None:
        cost, tiers = prices.unknown.cost_nusd(was.model, was.usage), False
    else:
        cost, tiers = priced.cost_of_many_nusd(was.usage, calls=was.calls), bool(priced.tiers)
    return Repriced(
        model=was.model,
        calls=was.calls,
        usage=was.usage,
        charged_nusd=was.cost_nusd,
        repriced_nusd=cost,
        tiers=tiers,
        unpriced=bool(was.model) and priced is None,
    )
