"""The REST API, which is mounted twice: at the root, and under /api/backend/ for a same-origin front end."""

from django.urls import include, path

from inventiv.accounts.api import MeView

urlpatterns = [
    path("", include("fleet.api.urls")),
    path("", include("catalog.api.urls")),
    path("", include("routing.api.urls")),
    path("me", MeView.as_view(), name="me"),
]
