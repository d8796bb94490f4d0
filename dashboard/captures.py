"""Whether prompts and replies are kept, as a page shows it."""

from __future__ import annotations

from django.conf import settings

from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.models import Tenant
from dashboard.page import Context


def capture_context(tenant: Tenant | None) -> Context:
    """Return what the panel of a tenant, or of the installation, needs."""
    held = telemetry.capture_of(tenant)
    choices = [("no", "Keep none of it"), ("yes", "Keep it, redacted")]
    return {
        "capture": held,
        "capture_owner": tenant.slug if tenant else "",
        "capture_choices": [*([("", "As it is said further up")] if tenant else []), *choices],
        "capture_now": ("yes" if held.keeps else "no") if held.own or tenant is None else "",
        "capture_redact": "\n".join(held.redact) if held.own else "",
        "message_days": settings.MESSAGE_RETENTION_DAYS,
    }
