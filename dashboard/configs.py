"""Which revision a config is, and which is the newest of a scope."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.policy.models import Snapshot


def revisions_by_etag(etags: Iterable[str]) -> dict[str, int | None]:
    """Return the number of the revision that each known snapshot was compiled for."""
    return dict(Snapshot.objects.filter(etag__in=set(etags)).order_by("id").values_list("etag", "revision_id"))


def newest_etags(scopes: Iterable[int | None]) -> dict[int | None, str]:
    """Return the etag that is served to each of ``scopes``, ``None`` being the installation."""
    wanted = set(scopes)
    newest = Snapshot.objects.order_by("scope_id", "-id").distinct("scope_id")
    return {scope: etag for scope, etag in newest.values_list("scope_id", "etag") if scope in wanted}
