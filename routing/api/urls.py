from rest_framework.routers import SimpleRouter

from routing.api.views import ApiKeyViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("api-keys", ApiKeyViewSet, basename="api-key")
urlpatterns = router.urls
