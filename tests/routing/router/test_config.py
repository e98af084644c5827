"""The router's settings."""

from __future__ import annotations

import os

import pytest

from routing.router.config import Config, ConfigError
from tests.routing.router.process import ENCRYPTION_KEY

LEAST = {"REDIS_URL": "redis://localhost", "ENCRYPTION_KEYS": ENCRYPTION_KEY}


def test_two_settings_are_enough() -> None:
    config = Config.from_environ(LEAST | {"ROUTER_PORT": "", "ALLOWED_HOSTS": "a.example, .b.example"})

    assert (config.port, config.max_body_bytes) == (8080, 10 * 1024 * 1024)
    assert config.allowed_hosts == ("a.example", ".b.example")


def test_it_has_a_process_for_each_core_that_it_may_use_if_told_so() -> None:
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        assert Config.from_environ(LEAST | {"ROUTER_WORKERS": "auto"}).workers == 1
    finally:
        os.sched_setaffinity(0, usable)

    assert Config.from_environ(LEAST | {"ROUTER_WORKERS": "auto"}).workers == len(usable)
    assert Config.from_environ(LEAST | {"ROUTER_WORKERS": "3"}).workers == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", ""),
        ("REDIS_URL", "http://nonsense"),
        ("REDIS_URL", "redis://host:port"),
        ("ENCRYPTION_KEYS", ""),
        ("ENCRYPTION_KEYS", ","),
        ("ENCRYPTION_KEYS", "nonsense"),
        ("ROUTER_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("ROUTER_TRUSTED_PROXIES", "proxy.example"),
        ("ROUTER_METRICS_CIDRS", "10.0.0.0/33"),
        ("ROUTER_PORT", "80a"),
        ("ROUTER_PORT", "99999"),
        ("ROUTER_WORKERS", "0"),
        ("MAX_BODY_BYTES", "-5"),
        ("ROUTER_IDLE_TIMEOUT", "nan"),
        ("ROUTER_IDLE_TIMEOUT", "inf"),
        ("ROUTER_IDLE_TIMEOUT", "0"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}"):
        Config.from_environ(LEAST | {name: value})
