"""How gunicorn serves the product plane: `gunicorn` in this directory is all it takes."""

from django.conf import settings

from inventiv import configuration

wsgi_app = "inventiv.wsgi:application"
bind = f"{settings.API_HOST}:{settings.API_PORT}"
worker_class = "gthread"
workers = settings.API_WORKERS
threads = settings.API_THREADS
keepalive = 5
timeout = 60
graceful_timeout = 10
control_socket_disable = True


def on_starting(server: object) -> None:
    """Before a socket is opened or a worker started: refuse what can't work."""
    with configuration.refusing():
        configuration.reach_port("API_PORT", settings.API_HOST, settings.API_PORT)
        configuration.reach_database(settings.DATABASE_URL)
