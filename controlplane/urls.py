"""Django's side of the address space. SDK and OTLP traffic never gets here: see ``asgi.py``."""

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
