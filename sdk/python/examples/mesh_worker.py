"""The validator of ``mesh.py`` in processes of its own: ``celery -A mesh_worker worker -P threads``."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import Any

from celery import Celery
from mesh import mesh_of

import tidegate

app = Celery("mesh", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(task_ignore_result=True, task_default_queue="mesh", task_acks_late=True)


@cache
def gate() -> tidegate.Gate:
    return tidegate.connect(app="example-mesh-worker")


@app.task(name="mesh.perform")
def perform(errand: dict[str, Any], tenant: str | None) -> None:
    """Do a step of a run. Celery may bring it twice; it is done once."""
    asyncio.run(mesh_of(gate(), tenant, celery=False).perform(errand))  # type: ignore[arg-type]  # what an Errand is as JSON
