"""The Celery application: periodic and slow work. Tasks take ids and make one call each."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from controlplane.garbage import keep_what_was_loaded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

app = Celery("tidegate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no types
def settle(**_: Any) -> None:
    keep_what_was_loaded()
