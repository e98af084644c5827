from django.urls import path
from rest_framework.routers import SimpleRouter

from routing.api.usage import UsageView
from routing.api.views import ApiKeyViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("api-keys", ApiKeyViewSet, basename="api-key")
urlpatterns = [*router.urls, path("usage", UsageView.as_view(), name="usage")]
