from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from fleet import worker_keys
from fleet.models import Attempt, Instance
from fleet.states import Status
from routing import addresses
from tests.inventiv.api_stage import MakeInstances

pytestmark = pytest.mark.django_db

PATH = "/internal/workers/bootstrap"
AGENT_TOKEN = "a" * 43


@pytest.fixture
def booting(make_instances: MakeInstances) -> Instance:
    (instance,) = make_instances(1, status=Status.BOOTING)
    instance.api_key, instance.ip_address = worker_keys.new_engine_key(), "127.0.0.1"
    instance.save()
    attempt = instance.attempts.get()
    token = worker_keys.bootstrap_token(attempt.pk)
    Attempt.objects.filter(pk=attempt.pk).update(bootstrap_sha256=worker_keys.sha256(token), started_at=timezone.now())
    return instance


def body(instance: Instance, **others: Any) -> dict[str, Any]:
    token = worker_keys.bootstrap_token(instance.attempts.get().pk)
    return {"instance_id": str(instance.pk), "bootstrap_token": token, "agent_token": AGENT_TOKEN, **others}


def test_a_machine_gets_its_engines_key(anonymous: APIClient, booting: Instance) -> None:
    response = anonymous.post(PATH, body(booting))
    assert response.status_code == 200, response.json()
    assert booting.api_key is not None
    assert response.json() == {"engine_api_key": worker_keys.open_engine_key(booting.api_key), "hf_token": ""}
    assert response["Cache-Control"] == "no-store"


def test_a_machine_gets_the_token_for_models_behind_a_licence_and_a_stranger_does_not(
    anonymous: APIClient, booting: Instance, settings: Any
) -> None:
    settings.HF_TOKEN = "hf_canary"

    refused = anonymous.post(PATH, body(booting, bootstrap_token="x" * 64))
    trusted = anonymous.post(PATH, body(booting))

    assert "hf_canary" not in refused.content.decode()
    assert trusted.json()["hf_token"] == "hf_canary"


def test_a_lost_answer_is_given_again(anonymous: APIClient, booting: Instance) -> None:
    first, again = anonymous.post(PATH, body(booting)), anonymous.post(PATH, body(booting))
    assert again.status_code == 200
    assert again.json() == first.json()


def test_a_second_agent_is_refused(anonymous: APIClient, booting: Instance) -> None:
    anonymous.post(PATH, body(booting))
    assert anonymous.post(PATH, body(booting, agent_token="b" * 43)).status_code == 403


@pytest.mark.parametrize(
    "wrong", [{"bootstrap_token": "x" * 64}, {"instance_id": str(uuid.UUID(int=1))}, {"agent_token": "b" * 20}]
)
def test_a_wrong_token_is_refused_without_saying_why(
    anonymous: APIClient, booting: Instance, wrong: dict[str, str]
) -> None:
    response = anonymous.post(PATH, body(booting, **wrong))
    assert response.status_code == 403
    assert response.json()["detail"] == "This token is not valid for this instance."


@pytest.mark.parametrize(
    ("rubbish", "field"),
    [
        ({"instance_id": "nonsense"}, "instance_id"),
        ({"instance_id": 10**60}, "instance_id"),
        ({"bootstrap_token": "\x00"}, "bootstrap_token"),
        ({"bootstrap_token": []}, "bootstrap_token"),
        ({"agent_token": ""}, "agent_token"),
        ({"agent_token": "x" * 9999}, "agent_token"),
    ],
)
def test_rubbish_is_told_apart(anonymous: APIClient, booting: Instance, rubbish: dict[str, Any], field: str) -> None:
    response = anonymous.post(PATH, body(booting, **rubbish))
    assert response.status_code == 400
    assert [fault["field"] for fault in response.json()["errors"]] == [field]


def test_a_machine_needs_no_csrf_token_and_no_session(booting: Instance) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.cookies["sessionid"] = "stale"
    assert client.post(PATH, body(booting)).status_code == 200


def test_only_post_is_answered(anonymous: APIClient) -> None:
    assert anonymous.get(PATH).status_code == 405


def test_from_another_address_it_is_asked_to_come_again_and_gets_no_key(
    anonymous: APIClient, booting: Instance
) -> None:
    response = anonymous.post(PATH, body(booting), REMOTE_ADDR="203.0.113.9")

    assert (response.status_code, response["Retry-After"]) == (429, "1")
    assert "engine_api_key" not in response.json()
    assert booting.heartbeat_refusals.get().address == "203.0.113.9"


def test_through_a_trusted_proxy_the_machines_own_address_counts(
    anonymous: APIClient, booting: Instance, settings: Settings
) -> None:
    Instance.objects.filter(pk=booting.pk).update(ip_address="192.0.2.7")
    settings.API_TRUSTED_PROXIES = addresses.networks(["127.0.0.1"])

    def ask(forwarded: str) -> int:
        return anonymous.post(PATH, body(booting), HTTP_X_FORWARDED_FOR=forwarded).status_code

    assert ask("192.0.2.7, 203.0.113.9") == 429
    assert ask("192.0.2.7") == 200
