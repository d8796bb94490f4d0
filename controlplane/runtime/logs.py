"""Logs are events: one line each, as ``key=value`` for people or as JSON for machines.

Everything goes through the standard library's root logger, so that what Django, Celery and others say looks the same.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import structlog
from structlog.typing import Processor

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure(wanted: dict[str, Any]) -> None:
    """Set up logging as ``settings.LOGGING`` wants it: ``format`` is ``console`` or ``json``, ``level`` a level's name.

    Django calls this in every process of ours, as ``settings.LOGGING_CONFIG``.
    """
    as_json = wanted.get("format") == "json"
    render: list[Processor] = [structlog.processors.ExceptionRenderer()] if as_json else []
    render.append(structlog.processors.JSONRenderer() if as_json else _console_renderer())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(str(wanted.get("level", "info")).upper())
    for noisy in ("celery", "django.request", "asyncio", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _console_renderer() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=False,
        pad_event_to=0,
        pad_level=False,
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,  # the other one tells the values of variables: people's state
    )
