"""Every setting of the server, read from the environment in this one place.

``manage.py up`` fills in what is missing from its data directory, so that a child process needs nothing but its environment.
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from celery.schedules import crontab

from controlplane.runtime.engines import kept_environment

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str, default: bool) -> bool:
    return os.environ.get(name, str(int(default))).strip().lower() in {"1", "true", "yes", "on"}


def _database(url: str) -> dict[str, object]:
    """Return Django's database settings for a ``postgresql://user:password@host:port/name?option=value`` address."""
    parts = urlsplit(url)
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    host = unquote(query.pop("host", "") or parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "tidegate",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**query, "pool": {"min_size": 1, "max_size": 8, "timeout": 10}},
    }


DATA_DIR = Path(os.environ.get("TIDEGATE_DATA_DIR", BASE_DIR / ".tidegate"))
_KEPT = kept_environment(DATA_DIR)

SECRET_KEY = os.environ.get("TIDEGATE_SECRET_KEY") or _KEPT.get("TIDEGATE_SECRET_KEY", "")
DEBUG = _flag("TIDEGATE_DEBUG", False)
ALLOWED_HOSTS = os.environ.get("TIDEGATE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ.get("TIDEGATE_TRUSTED_ORIGINS", "").split(",") if origin]

DATABASE_URL = os.environ.get("DATABASE_URL") or _KEPT.get("DATABASE_URL", "postgresql:///tidegate")
VALKEY_URL = os.environ.get("VALKEY_URL") or _KEPT.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
DATABASES = {"default": _database(DATABASE_URL)}

# Live figures refresh and SDKs report this often, in milliseconds. The server tells the SDKs, they do not choose.
SYNC_INTERVAL_MS = int(os.environ.get("TIDEGATE_SYNC_INTERVAL_MS", "1000"))
# A lease may be used this long after the request that fetched it was sent.
LEASE_TTL_MS = int(os.environ.get("TIDEGATE_LEASE_TTL_MS", "15000"))
# An export request may be this large after it was unpacked.
OTLP_MAX_BYTES = int(os.environ.get("TIDEGATE_OTLP_MAX_BYTES", str(64 << 20)))
# Seal state at rest and the addresses of its nodes: comma-separated, the newest first. Without them, the secret key does.
STATE_KEYS = [key for key in os.environ.get("TIDEGATE_STATE_KEYS", SECRET_KEY).split(",") if key]
# Pages of these origins may ask OFREP for releases, with an SDK key that everybody can read; "*" for all.
OFREP_ORIGINS = [origin for origin in os.environ.get("TIDEGATE_OFREP_ORIGINS", "").split(",") if origin]
SPAN_RETENTION_DAYS = int(os.environ.get("TIDEGATE_SPAN_RETENTION_DAYS", "14"))
MESSAGE_RETENTION_DAYS = int(os.environ.get("TIDEGATE_MESSAGE_RETENTION_DAYS", "3"))
LOG_RETENTION_DAYS = int(os.environ.get("TIDEGATE_LOG_RETENTION_DAYS", "7"))
POINT_RETENTION_DAYS = int(os.environ.get("TIDEGATE_POINT_RETENTION_DAYS", "14"))
MINUTE_RETENTION_DAYS = int(os.environ.get("TIDEGATE_MINUTE_RETENTION_DAYS", "30"))
HOUR_RETENTION_DAYS = int(os.environ.get("TIDEGATE_HOUR_RETENTION_DAYS", "400"))
WINDOW_RETENTION_HOURS = int(os.environ.get("TIDEGATE_WINDOW_RETENTION_HOURS", "24"))
LEASE_RETENTION_DAYS = max(1, int(os.environ.get("TIDEGATE_LEASE_RETENTION_DAYS", "35")))
PERIOD_RETENTION_DAYS = max(1, int(os.environ.get("TIDEGATE_PERIOD_RETENTION_DAYS", "400")))
LEDGER_RETENTION_DAYS = max(1, int(os.environ.get("TIDEGATE_LEDGER_RETENTION_DAYS", "35")))

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "channels",
    "ninja",  # serves its documentation page from our own static files
    "csp",
    "controlplane.tenancy",
    "controlplane.policy",
    "controlplane.telemetry",
    "controlplane.fleet",
    "controlplane.state",
    "controlplane.budgets",
    "controlplane.rollouts",
    "controlplane.alerting",
    "controlplane.runtime",
    "dashboard",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "controlplane.api.addresses.AddressMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",  # adds random bytes against BREACH
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "controlplane.api.idempotency.IdempotencyMiddleware",
]
ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
AUTH_USER_MODEL = "tenancy.Operator"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
CSRF_FAILURE_VIEW = "dashboard.views.door.form_expired"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "sign-in"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# The embedded default is plain HTTP on loopback. TIDEGATE_HTTPS=1 when TLS ends at or before this process.
if _flag("TIDEGATE_HTTPS", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "static"
# "manage.py up" collects and compresses them; where nobody did, they come from the sources.
WHITENOISE_USE_FINDERS = not STATIC_ROOT.is_dir()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Events, not prose (controlplane/runtime/logs.py): "console" for people, "json" for machines.
LOGGING_CONFIG = "controlplane.runtime.logs.configure"
LOGGING = {
    "format": os.environ.get("TIDEGATE_LOG_FORMAT", "console"),
    "level": os.environ.get("TIDEGATE_LOG_LEVEL", "info"),
}

# Where people reach this server, for links in notifications; and the mail server that sends them:
# smtp://user:password@host:587, smtps:// for TLS from the start.
PUBLIC_URL = os.environ.get("TIDEGATE_PUBLIC_URL", "")
_SMTP = urlsplit(os.environ.get("TIDEGATE_SMTP_URL", ""))
EMAIL_HOST = _SMTP.hostname or ""
EMAIL_PORT = _SMTP.port or (465 if _SMTP.scheme == "smtps" else 587)
EMAIL_HOST_USER = unquote(_SMTP.username or "")
EMAIL_HOST_PASSWORD = unquote(_SMTP.password or "")
EMAIL_USE_SSL = _SMTP.scheme == "smtps"
EMAIL_USE_TLS = _SMTP.scheme == "smtp" and bool(_SMTP.username)
EMAIL_TIMEOUT = 10
MAIL_FROM = os.environ.get("TIDEGATE_MAIL_FROM", "tidegate@localhost")

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", VALKEY_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "rollouts.tick": {"task": "rollouts.tick", "schedule": 5.0, "options": {"expires": 10}},
    "rollouts.retain": {"task": "rollouts.retain", "schedule": 3600.0},
    "telemetry.retain": {"task": "telemetry.retain", "schedule": 3600.0},
    "alerting.evaluate": {"task": "alerting.evaluate", "schedule": 5.0, "options": {"expires": 10}},
    "alerting.deliver": {"task": "alerting.deliver", "schedule": 2.0, "options": {"expires": 4}},
    "alerting.tidy": {"task": "alerting.tidy", "schedule": 3600.0},
    "telemetry.climb": {"task": "telemetry.climb", "schedule": 10.0, "options": {"expires": 20}},
    "telemetry.sum_spans": {"task": "telemetry.sum_spans", "schedule": 10.0, "options": {"expires": 20}},
    "telemetry.fold": {"task": "telemetry.fold", "schedule": 60.0, "options": {"expires": 60}},
    "state.retain": {"task": "state.retain", "schedule": 3600.0},
    "state.rebalance": {"task": "state.rebalance", "schedule": 5.0, "options": {"expires": 5}},
    "budgets.refresh_prices": {"task": "budgets.refresh_prices", "schedule": 3600.0},
    "budgets.keep_ledger": {"task": "budgets.keep_ledger", "schedule": 3600.0},
    "tenancy.retain": {"task": "tenancy.retain", "schedule": 3600.0},
    "policy.retain": {"task": "policy.retain", "schedule": 3600.0},
    "budgets.retain": {"task": "budgets.retain", "schedule": 3600.0, "options": {"expires": 3600}},
    "budgets.expire_lost": {"task": "budgets.expire_lost", "schedule": 600.0},
    "budgets.prove_ledger": {"task": "budgets.prove_ledger", "schedule": crontab(hour=3, minute=17)},
}
