from rest_framework.routers import SimpleRouter

from fleet.api.accounts import ProviderAccountViewSet
from fleet.api.catalog_syncs import CatalogSyncViewSet
from fleet.api.deployments import DeploymentViewSet
from fleet.api.instances import InstanceViewSet
from fleet.api.money import LeakViewSet, RentalViewSet, SweepViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("catalog/sync", CatalogSyncViewSet, basename="catalog-sync")
router.register("deployments", DeploymentViewSet, basename="deployment")
router.register("instances", InstanceViewSet, basename="instance")
router.register("provider-accounts", ProviderAccountViewSet, basename="provider-account")
router.register("leaks", LeakViewSet, basename="leak")
router.register("rentals", RentalViewSet, basename="rental")
router.register("sweeps", SweepViewSet, basename="sweep")
urlpatterns = router.urls
