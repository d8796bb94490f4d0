"""What the ASGI server runs: SDK and OTLP traffic on the raw edge, websockets on Channels, the rest on Django."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

from django.core.asgi import get_asgi_application

application = get_asgi_application()
