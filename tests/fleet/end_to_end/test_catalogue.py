"""What the clouds' own words make of the catalogue, against what we ship as its beginning."""

from __future__ import annotations

from catalog.models import InstanceAvailability, InstanceType, Zone
from catalog.seed import seed
from fleet.models import Instance
from tests.fleet.end_to_end.stage import WiredStage, sync


def offers(stage: WiredStage) -> dict[tuple[str, str], tuple[object, ...]]:
    """Of the two zones: what is told of each type there."""
    rows = InstanceAvailability.objects.filter(zone__name__in=[zone.zone for zone in stage.cloud.zones])
    return {
        (row.instance_type.name, row.zone.name): (
            row.instance_type.gpu_name,
            row.instance_type.gpu_count,
            row.instance_type.vram_per_gpu_gb,
            row.price_per_hour,
            row.currency,
        )
        for row in rows.select_related("instance_type", "zone")
    }


def test_what_a_sync_says_is_what_the_file_says(stage: WiredStage) -> None:
    """AWS tells prices of a few types only here, and its stand-in has fewer of the newest in these zones."""
    synced = offers(stage)
    assert not Instance.objects.exists()
    InstanceAvailability.objects.all().delete()
    InstanceType.objects.all().delete()

    seed(only=[stage.cloud.name])

    in_both = synced.keys() & offers(stage).keys()
    assert {key: synced[key] for key in in_both} == {key: offers(stage)[key] for key in in_both}
    assert {stage.cloud.instance_type, stage.cloud.larger} <= {name for name, _ in in_both}
    if stage.cloud.name == "scaleway":
        assert synced.keys() == offers(stage).keys()


def test_a_sync_of_what_was_seeded_changes_no_figure_and_switches_nothing_on(stage: WiredStage) -> None:
    InstanceAvailability.objects.all().delete()
    InstanceType.objects.all().delete()
    seed(only=[stage.cloud.name])
    before = offers(stage)

    sync(stage)

    after = offers(stage)
    assert {key: after[key] for key in before} == before
    assert not InstanceType.objects.filter(name="RENDER-S", is_active=True).exists()  # its GPU serves no model


def test_every_zone_of_the_file_is_one_that_the_driver_knows(stage: WiredStage) -> None:
    """Else the first sync would mark what is offered there as vanished."""
    seed(only=[stage.cloud.name])

    known = {location.zone for location in stage.world.provider(stage.cloud.name, None).locations()}

    assert set(Zone.objects.values_list("name", flat=True)) <= known
