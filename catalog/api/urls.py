from rest_framework.routers import SimpleRouter

from catalog.api import views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("models", views.ModelViewSet, basename="model")
router.register("providers", views.ProviderViewSet, basename="provider")
router.register("regions", views.RegionViewSet, basename="region")
router.register("zones", views.ZoneViewSet, basename="zone")
router.register("instance-types", views.InstanceTypeViewSet, basename="instance-type")
router.register("ssh-keys", views.SshKeyViewSet, basename="ssh-key")
urlpatterns = router.urls
