"""The product plane as a WSGI application: `gunicorn inventiv.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inventiv.settings")

application = get_wsgi_application()
