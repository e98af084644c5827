"""`manage.py check_provider` against the stand-ins."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from tests.fleet.end_to_end.clouds import Aws, Cloud
from tests.fleet.end_to_end.stage import WiredStage

pytestmark = pytest.mark.usefixtures("ready_control_plane")


@pytest.fixture
def ready_control_plane(settings: Any) -> None:
    settings.CONTROL_PLANE_URL, settings.ROUTER_URL = "https://control.example.org", "https://router.example.org"


def check(cloud: Cloud, *words: str) -> tuple[int, str]:
    """Exit code and output, for the first zone."""
    out = StringIO()
    try:
        call_command("check_provider", cloud.name, "--zone", cloud.zones[0].zone, *words, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def verdicts(cloud: Cloud) -> dict[str, str]:
    return {row["subject"]: row["verdict"] for row in json.loads(check(cloud, "--json")[1])["findings"]}


def test_an_account_that_can_rent_lacks_nothing_and_nothing_is_rented(stage: WiredStage) -> None:
    code, text = check(stage.cloud)

    assert code == 0, text
    assert "Nothing is missing" in text
    assert {"credentials", "image"} <= {what for what, verdict in verdicts(stage.cloud).items() if verdict == "works"}
    assert stage.cloud.bill() == []


def test_refused_credentials_are_named_and_nothing_else_is_asked(stage: WiredStage) -> None:
    stage.cloud.refuse_everything("401")

    code, text = check(stage.cloud)

    assert code == 1
    assert verdicts(stage.cloud)["credentials"] == "missing"
    assert "image" not in verdicts(stage.cloud)
    secrets = [value for name, value in stage.cloud.options().items() if "secret" in name]
    assert secrets
    assert not [secret for secret in secrets if secret in text]


def test_a_cloud_that_does_not_answer_makes_it_unclear_and_not_missing(stage: WiredStage) -> None:
    stage.cloud.refuse_everything("502")

    code, text = check(stage.cloud)

    assert code == 0, text
    assert verdicts(stage.cloud)["credentials"] == "unclear"


@pytest.mark.parametrize("cloud", ["aws"], indirect=True)
def test_a_quota_of_zero_is_missing_with_what_to_do(stage: WiredStage) -> None:
    assert isinstance(stage.cloud, Aws)
    stage.cloud.grant_vcpus(0)

    code, text = check(stage.cloud)

    assert code == 1
    assert "Service Quotas" in text
