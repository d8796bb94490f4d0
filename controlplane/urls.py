"""Django's side of the address space. SDK and OTLP traffic never gets here: see ``asgi.py``."""

from django.urls import URLPattern, URLResolver, include, path

from controlplane.api.app import api
from dashboard.urls import app_urls

urlpatterns: list[URLPattern | URLResolver] = [path("api/v1/", api.urls), path("", include(app_urls))]
