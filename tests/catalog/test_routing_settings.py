"""How a model is called: its other names, its fallbacks, its prices; refused where two models would have one name."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from catalog.models import InstanceType, LlmModel
from inventiv.accounts.roles import Role
from tests.catalog.stage import Stage, browser, make_model
from tests.catalog.test_admin import posted

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
NEW_MODEL = {"name": "Tiny", "context_length": 4096, "parameters": 1000, "required_vram_gb": 1}


def faults(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.json()
    return {fault["field"]: fault["message"] for fault in response.json()["errors"]}


def test_a_model_is_called_as_before_unless_it_is_said_otherwise(stage: Stage, viewer: APIClient) -> None:
    row = viewer.get(f"/models/{stage.model.pk}").json()

    assert (row["aliases"], row["fallbacks"], row["routing"]) == ([], [], "least_load")
    for name in ("max_concurrency", "first_byte_timeout", "input_price_per_million", "output_price_per_million"):
        assert row[name] is None


def test_an_operator_says_how_a_model_is_called(stage: Stage, operator: APIClient) -> None:
    make_model("acme/large")
    settings = {
        "aliases": ["llama-3-8b", "gpt-4o"],
        "fallbacks": ["acme/large"],
        "routing": "prefix",
        "max_concurrency": 64,
        "first_byte_timeout": 30,
        "input_price_per_million": "0.150000",
        "output_price_per_million": "0.600000",
    }
    answer = operator.patch(f"/models/{stage.model.pk}", settings)

    assert answer.status_code == 200, answer.json()
    assert {name: answer.json()[name] for name in settings} == settings
    assert LlmModel.objects.get(pk=stage.model.pk).output_price_per_million == Decimal("0.6")


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"aliases": [LLAMA]}, "aliases", "the model's own id"),
        ({"aliases": ["acme/large"]}, "aliases", '"acme/large" is the id of acme/large already'),
        ({"aliases": ["large"]}, "aliases", '"large" is an alias of acme/large already'),
        ({"aliases": ["x", "x"]}, "aliases", '"x" stands there 2 times'),
        ({"aliases": ["two words"]}, "aliases.0", "A model id is a name"),
        ({"aliases": [""]}, "aliases.0", "blank"),
        ({"aliases": [f"a{number}" for number in range(21)]}, "aliases", "no more than 20"),
        ({"aliases": None}, "aliases", "null"),
        ({"model_id": "large"}, "model_id", '"large" is an alias of acme/large'),
        ({"fallbacks": [LLAMA]}, "fallbacks", "its own fallback"),
        ({"fallbacks": ["acme/none"]}, "fallbacks", 'no model with the id "acme/none"'),
        ({"fallbacks": ["large"]}, "fallbacks", 'no model with the id "large"'),
        ({"fallbacks": ["acme/large", "acme/large"]}, "fallbacks", "2 times"),
        ({"routing": "random"}, "routing", "not a valid choice"),
        ({"max_concurrency": 0}, "max_concurrency", "1"),
        ({"first_byte_timeout": 0}, "first_byte_timeout", "1"),
        ({"first_byte_timeout": 3601}, "first_byte_timeout", "3600"),
        ({"input_price_per_million": "-0.1"}, "input_price_per_million", "0"),
        ({"input_price_per_million": "NaN"}, "input_price_per_million", "number"),
        ({"output_price_per_million": "0.0000001"}, "output_price_per_million", "decimal"),
    ],
)
def test_it_names_what_is_wrong_with_a_setting(
    stage: Stage, operator: APIClient, change: dict[str, Any], field: str, words: str
) -> None:
    make_model("acme/large", aliases=["large"])
    found = faults(operator.patch(f"/models/{stage.model.pk}", change))

    assert list(found) == [field]
    assert words in found[field]


def test_a_new_model_takes_no_name_that_is_taken(stage: Stage, operator: APIClient) -> None:
    make_model("acme/large", aliases=["large"])
    found = faults(operator.post("/models", {**NEW_MODEL, "model_id": "large", "aliases": [LLAMA]}))
    assert set(found) == {"model_id", "aliases"}


def test_two_models_may_be_each_others_fallback(stage: Stage, operator: APIClient) -> None:
    large = make_model("acme/large", fallbacks=[LLAMA])
    assert operator.patch(f"/models/{stage.model.pk}", {"fallbacks": [large.model_id]}).status_code == 200


def test_a_change_of_something_else_keeps_the_names(stage: Stage, operator: APIClient) -> None:
    LlmModel.objects.filter(pk=stage.model.pk).update(aliases=["llama"])
    assert operator.patch(f"/models/{stage.model.pk}", {"name": "Llama"}).json()["aliases"] == ["llama"]


@pytest.mark.django_db(transaction=True)
def test_of_two_models_that_take_a_name_at_once_one_gets_it() -> None:
    models = [make_model("acme/one"), make_model("acme/two")]
    statuses = []
    together = threading.Barrier(2)

    def take(model: LlmModel) -> None:
        client = browser(Role.OPERATOR, APIClient())
        together.wait(timeout=10)
        statuses.append(client.patch(f"/models/{model.pk}", {"aliases": ["the-best"]}).status_code)
        connection.close()

    browser(Role.OPERATOR, APIClient())
    for _ in range(10):
        LlmModel.objects.update(aliases=[])
        statuses.clear()
        threads = [threading.Thread(target=take, args=[model]) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=10)
        assert sorted(statuses) == [200, 400]


@pytest.mark.parametrize(
    "damage",
    [
        {"routing": "random"},
        {"max_concurrency": 0},
        {"first_byte_timeout": 0},
        {"input_price_per_million": -1},
        {"output_price_per_million": -1},
    ],
)
def test_the_database_too_refuses_what_cannot_be(stage: Stage, damage: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        LlmModel.objects.filter(pk=stage.model.pk).update(**damage)


# --- the admin ----------------------------------------------------------------------------------------------------


@pytest.fixture
def operator_page(db: None) -> Client:
    return browser(Role.OPERATOR, Client())


def test_names_are_edited_with_commas_and_refused_where_they_clash(stage: Stage, operator_page: Client) -> None:
    make_model("acme/large")
    posted(operator_page, stage.model, aliases="llama-3-8b, gpt-4o", fallbacks="acme/large")
    row = LlmModel.objects.get(pk=stage.model.pk)
    assert (row.aliases, row.fallbacks) == (["llama-3-8b", "gpt-4o"], ["acme/large"])

    response = posted(operator_page, stage.model, aliases="acme/large")
    assert "is the id of acme/large already" in response.content.decode()


# --- instance types -----------------------------------------------------------------------------------------------


def test_the_speed_of_a_type_is_one_unless_an_operator_says_otherwise(
    stage: Stage, operator: APIClient, operator_page: Client
) -> None:
    path = f"/instance-types/{stage.h100.pk}"
    assert operator.get(path).json()["relative_speed"] == "1.00"
    assert operator.patch(path, {"relative_speed": "3.5"}).json()["relative_speed"] == "3.50"

    posted(operator_page, stage.h100, relative_speed="4")

    assert InstanceType.objects.get(pk=stage.h100.pk).relative_speed == 4
    assert "relative_speed" in operator_page.get(reverse("admin:catalog_instancetype_add")).content.decode()


@pytest.mark.parametrize("speed", ["0", "-1", "0.001", "1001", "NaN"])
def test_a_speed_that_cannot_be_is_refused(stage: Stage, operator: APIClient, speed: str) -> None:
    assert list(faults(operator.patch(f"/instance-types/{stage.h100.pk}", {"relative_speed": speed}))) == [
        "relative_speed"
    ]
