"""The project: settings, Celery, URLs, people and their rights, and the commands that run it all."""

from inventiv.celery import app as celery_app

__all__ = ["celery_app"]
