"""Settings, from the environment. `.env.example` lists every variable; unset means the default here."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import environ

from gateway import embedded, logs

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
if (BASE_DIR / ".env").is_file():
    env.read_env(str(BASE_DIR / ".env"))

VAR_DIR = Path(env.str("TOLLBOOK_VAR_DIR", default=str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)


def _kept_secret(name: str, make: str) -> str:
    """A secret for a machine that was given none: made once, kept in the var directory, mode 600."""
    path = VAR_DIR / name
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(make)
    return make


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="") or _kept_secret("secret_key", secrets.token_urlsafe(50))
# First key encrypts, all keys decrypt: rotate by putting a new one in front.
CREDENTIAL_KEYS: list[str] = env.list("TOLLBOOK_CREDENTIAL_KEYS", default=[]) or [
    _kept_secret("credential_key", _fernet_key())
]
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])

EMBEDDED_POSTGRES_DIR = VAR_DIR / "postgres"
DATABASE_URL = env.str("DATABASE_URL", default="") or embedded.start(data_dir=EMBEDDED_POSTGRES_DIR)
DATABASES = {
    "default": {
        **env.db_url_config(DATABASE_URL),
        "ENGINE": "django.db.backends.postgresql",
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **env.db_url_config(DATABASE_URL).get("OPTIONS", {}),
            "connect_timeout": env.int("TOLLBOOK_DB_CONNECT_TIMEOUT_S", default=2),
            "application_name": "tollbook",
        },
        "TEST": {"NAME": env.str("TOLLBOOK_TEST_DB", default="test_tollbook")},
    }
}

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "pgtrigger",
    "pghistory",
    "procrastinate.contrib.django",
    "gateway.apps.GatewayConfig",
    "providers.apps.ProvidersConfig",
    "ledger.apps.LedgerConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "pghistory.middleware.HistoryMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "gateway.urls"
WSGI_APPLICATION = "gateway.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
STATIC_URL = "static/"
# Unset: static files come straight from the packages, and nothing has to be collected.
STATIC_ROOT = env.str("TOLLBOOK_STATIC_ROOT", default="") or None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
LOGIN_URL = "/admin/login/"

HTTPS_ONLY = env.bool("TOLLBOOK_HTTPS_ONLY", default=False)
SECURE_SSL_REDIRECT = HTTPS_ONLY
# Probes come over plain HTTP, by address.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
BEHIND_PROXY = env.bool("TOLLBOOK_BEHIND_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "gateway.api.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "gateway.api.exceptions.handle",
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tollbook",
    "DESCRIPTION": "The LLM gateway that keeps the books.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
# Whoever is behind a request that changes something is written beside the change (ledger/history.py).
PGHISTORY_MIDDLEWARE_METHODS = ("POST", "PUT", "PATCH", "DELETE")
PGHISTORY_APPEND_ONLY = True
UNFOLD = {"SITE_TITLE": "Tollbook", "SITE_HEADER": "Tollbook"}

# The gateway. Durations are seconds, sizes are bytes.
MAX_BODY_BYTES = env.int("TOLLBOOK_MAX_BODY_BYTES", default=32 * 1024 * 1024)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
SNAPSHOT_POLL_S = env.float("TOLLBOOK_SNAPSHOT_POLL_S", default=1.0)
# The writer's lease, the grace before a sweeper fences it, and how often the sweeper looks.
WRITER_LEASE_S = env.float("TOLLBOOK_WRITER_LEASE_S", default=15.0)
WRITER_GRACE_S = env.float("TOLLBOOK_WRITER_GRACE_S", default=5.0)
SWEEP_INTERVAL_S = env.float("TOLLBOOK_SWEEP_INTERVAL_S", default=2.0)
LEDGER_TIMEOUT_S = env.float("TOLLBOOK_LEDGER_TIMEOUT_S", default=0.9)
SPOOL_DIR = VAR_DIR / "spool"
# A stream whose provider is silent sends its client a comment this often (0: never); a client who takes nothing of what
# is sent for so long is cut off, and so is one whose request does not come (gateway/slow_clients.py).
HEARTBEAT_S = env.float("TOLLBOOK_HEARTBEAT_S", default=15.0)
CLIENT_TIMEOUT_S = env.float("TOLLBOOK_CLIENT_TIMEOUT_S", default=60.0)
# The response cache (opt-in by header): memory of each process, or a server that all share, e.g. redis://host:6379/1.
CACHES = {"default": env.cache_url("CACHE_URL", default="locmemcache://")}
CACHE_TTL_S = env.int("TOLLBOOK_CACHE_TTL_S", default=3600)
# Batches. Workers on several machines share the directory.
FILES_DIR = Path(env.str("TOLLBOOK_FILES_DIR", default=str(VAR_DIR / "files")))
MAX_FILE_BYTES = env.int("TOLLBOOK_MAX_FILE_BYTES", default=200 * 1024 * 1024)
FILES_KEPT_DAYS = env.int("TOLLBOOK_FILES_KEPT_DAYS", default=30)
BATCH_CONCURRENCY = env.int("TOLLBOOK_BATCH_CONCURRENCY", default=8)
BATCHES_AT_ONCE = env.int("TOLLBOOK_BATCHES_AT_ONCE", default=4)
# When workers check every provider, as cron says it; empty: never.
HEALTH_CRON = env.str("TOLLBOOK_HEALTH_CRON", default="*/5 * * * *")
METRICS_ENABLED = env.bool("TOLLBOOK_METRICS", default=True)
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = logs.logging_config(LOG_LEVEL)
