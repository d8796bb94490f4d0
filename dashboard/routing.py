"""Websocket addresses of the dashboard. Only pages of this host may connect, and only signed-in people get frames."""

from __future__ import annotations

from channels.auth import AuthMiddlewareStack
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path

from dashboard.consumers import PageConsumer

websocket_urlpatterns = [
    path("ws/page/<slug:name>/", AllowedHostsOriginValidator(AuthMiddlewareStack(PageConsumer.as_asgi()))),
]
