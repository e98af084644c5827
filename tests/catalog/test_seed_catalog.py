"""`manage.py seed_catalog`: what it writes, what it leaves alone, and what a bad file does."""

from __future__ import annotations

import io
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog import offers, placement, seed
from catalog.fit import weights_gb
from catalog.models import InstanceAvailability, InstanceType, LlmModel, Precision, Provider, Region, Zone
from catalog.placement import Limits

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("seed_catalog", *arguments, stdout=out)
    return out.getvalue()


def test_it_fills_an_empty_catalogue() -> None:
    out = run()

    assert set(Provider.objects.values_list("name", flat=True)) == {"mock", "scaleway", "aws"}
    assert LlmModel.objects.count() >= 15
    h100 = InstanceAvailability.objects.get(instance_type__name="H100-2-80G", zone__name="pl-waw-2")
    assert (h100.price_per_hour, h100.currency) == (Decimal("5.733"), "EUR")
    assert InstanceAvailability.objects.filter(zone__region__name="us-east-1").exclude(currency="USD").count() == 0
    assert "models: 2" in out
    assert "0 updated, 0 kept" in out


def test_a_second_run_writes_nothing() -> None:
    run()
    before = snapshot()

    out = run()

    assert snapshot() == before
    assert "instance types: 0 created, 0 updated" in out


def test_updating_a_fresh_catalogue_changes_nothing() -> None:
    run()
    before = snapshot()

    run("--update")

    assert snapshot() == before


def test_what_an_operator_changed_is_kept() -> None:
    run()
    InstanceAvailability.objects.filter(instance_type__name="L4-1-24G").update(price_per_hour="0.5", stock="shortage")
    InstanceType.objects.filter(name="L4-1-24G").update(is_active=False)

    run()

    assert offer("L4-1-24G", "fr-par-2").price_per_hour == Decimal("0.5")
    assert not InstanceType.objects.get(name="L4-1-24G").is_active


def test_update_writes_the_files_facts_but_not_the_operators_decisions() -> None:
    run()
    InstanceAvailability.objects.filter(instance_type__name="L4-1-24G").update(price_per_hour="0.5", stock="shortage")
    InstanceType.objects.filter(name="L4-1-24G").update(is_active=False, gpu_name="L5")
    LlmModel.objects.filter(name="Phi-4").update(required_vram_gb=77, layers=1)

    out = run("--update")

    kind = InstanceType.objects.get(name="L4-1-24G")
    assert (offer("L4-1-24G", "fr-par-2").price_per_hour, kind.gpu_name) == (Decimal("0.7875"), "L4")
    assert (offer("L4-1-24G", "fr-par-2").stock, kind.is_active) == ("shortage", False)
    phi = LlmModel.objects.get(name="Phi-4")
    assert (phi.required_vram_gb, phi.layers) == (77, 40)
    assert "instance types: 0 created, 1 updated" in out


def test_a_provider_can_be_seeded_alone() -> None:
    run("--provider", "mock")

    assert list(Provider.objects.values_list("name", flat=True)) == ["mock"]
    assert not LlmModel.objects.exists()


def test_a_dry_run_tells_and_writes_nothing() -> None:
    out = run("--dry-run")

    assert "providers: 3 created" in out
    assert not Provider.objects.exists()


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CommandError, match="'azure'; there are: aws, mock, scaleway"):
        run("--provider", "azure")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda data: data["instance_types"][0].pop("gpu_count"), "instance_types, L4-1-24G: gpu_count"),
        (lambda data: data["instance_types"][0].update(gpu_count=0), "gpu_count: Ensure this value is greater"),
        (lambda data: data["instance_types"][0].update(zones=["fr-par-9"]), "zone fr-par-9 is in none of the regions"),
        (lambda data: data["instance_types"][0].update(colour="red"), "colour"),
        (lambda data: data["instance_types"][0].update(price_per_hour="much"), "price_per_hour"),
        (lambda data: data.update(currency="XXX"), "currency"),
        (lambda data: data.pop("regions"), "'regions' is missing"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_written(tmp_path: Path, break_it: Any, words: str) -> None:
    shutil.copytree(seed.DATA, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "scaleway.json"
    data = json.loads(path.read_text())
    break_it(data)
    path.write_text(json.dumps(data))

    with pytest.raises(seed.BadSeed, match=words) as error:
        seed.seed(directory=tmp_path)

    assert str(error.value).startswith("scaleway.json")
    assert not Provider.objects.exists()


def test_broken_json_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    shutil.copytree(seed.DATA, tmp_path, dirs_exist_ok=True)
    (tmp_path / "models.json").write_text("{")

    with pytest.raises(seed.BadSeed, match=r"models\.json: Expecting"):
        seed.seed(directory=tmp_path)

    assert not Provider.objects.exists()


def test_the_mocks_catalogue_is_what_the_mock_provider_offers() -> None:
    ours = json.loads((seed.DATA / "mock.json").read_text())
    theirs = json.loads((ROOT / "fleet/providers/mock/offers.json").read_text())

    assert ours["regions"] == theirs["regions"]
    zones = sorted(zone for names in ours["regions"].values() for zone in names)
    types = {row.pop("name"): {"currency": ours["currency"], **row} for row in ours["instance_types"]}
    assert all(sorted(row.pop("zones")) == zones for row in types.values())
    for row in theirs["instance_types"]:
        assert Decimal(row.pop("spot_price_per_hour")) < Decimal(row["price_per_hour"])
    assert types == {row.pop("name"): row for row in theirs["instance_types"]}


def test_every_seeded_model_fits_some_seeded_machine_by_default(settings: Any) -> None:
    settings.ENABLED_PROVIDERS = ["mock", "scaleway", "aws"]
    run()

    for model in LlmModel.objects.all():
        plan = placement.plan(offers.need(model), offers.current_offers(), Limits())
        assert plan.ranked, model.model_id


def test_the_floor_of_every_seeded_model_holds_its_weights() -> None:
    run()

    for model in LlmModel.objects.all():
        assert model.required_vram_gb >= weights_gb(offers.need(model)), model.model_id


def test_a_small_chat_model_fits_the_mocks_smallest_machine() -> None:
    run()

    model = LlmModel.objects.get(model_id="Qwen/Qwen2.5-0.5B-Instruct")
    best = placement.plan(offers.need(model), offers.current_offers(), Limits()).ranked[0]

    assert best.offer.instance_type == "MOCK-L4-1-24G"


def test_every_precision_of_the_catalogue_has_a_weight_size() -> None:
    from catalog.fit import BYTES_PER_WEIGHT

    assert set(BYTES_PER_WEIGHT) == set(Precision.values)


def offer(instance_type: str, zone: str) -> InstanceAvailability:
    return InstanceAvailability.objects.get(instance_type__name=instance_type, zone__name=zone)


def snapshot() -> list[Any]:
    tables = (Provider, Region, Zone, InstanceType, InstanceAvailability, LlmModel)
    return [sorted(model.objects.values_list(), key=str) for model in tables]
