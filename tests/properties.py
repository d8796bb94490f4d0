"""Tests of properties judge what comes out, never how long it takes: a busy machine makes slow examples, not wrong ones.

A plugin (``-p tests.properties``), because ``settings`` take their defaults when the modules that name them are loaded.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
