from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from fleet.api.bootstrap import BootstrapView
from inventiv.api import health, problems

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("swagger-ui", SpectacularSwaggerView.as_view(url_name="openapi"), name="swagger-ui"),
    path("swagger-ui/", RedirectView.as_view(pattern_name="swagger-ui")),
    path("api-docs/", RedirectView.as_view(pattern_name="swagger-ui")),
    path("api-docs/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("internal/workers/bootstrap", BootstrapView.as_view()),
    path("", include("inventiv.api.urls")),
    path("api/backend/", include(("inventiv.api.urls", "backend"))),
]

handler400 = problems.bad_request
handler403 = problems.permission_denied
handler404 = problems.not_found
handler500 = problems.server_error
