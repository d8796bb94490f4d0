"""What of the management API's memory is forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from controlplane.tenancy.models import IdempotentReply
from controlplane.tenancy.tasks import REPLIES_KEPT, retain

pytestmark = pytest.mark.django_db


def test_retain__replies_to_keys_of_long_ago__go() -> None:
    for age in (REPLIES_KEPT - timedelta(hours=1), REPLIES_KEPT + timedelta(hours=1)):
        created_at = timezone.now() - age
        IdempotentReply.objects.create(caller="t", key=str(age), fingerprint="f", created_at=created_at)

    retain()

    assert IdempotentReply.objects.get().key == str(REPLIES_KEPT - timedelta(hours=1))
