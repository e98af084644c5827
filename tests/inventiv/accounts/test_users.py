"""Users in the admin, and logging in to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks, Settings

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing import key_index
from routing.discovery import keys
from routing.models import ApiKey
from tests.fleet.admin.rows import client_of, user

pytestmark = pytest.mark.django_db

LIST = reverse("admin:accounts_user_changelist")
ADD = reverse("admin:accounts_user_add")
LOGIN = reverse("admin:login")
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def admin() -> User:
    return user(Role.ADMIN)


def page_of(who: User) -> str:
    return reverse("admin:accounts_user_change", args=[who.pk])


def change(client: Client, who: User, **changes: Any) -> Any:
    form = {"email": who.email, "role": who.role, "is_active": "on", **changes}
    return client.post(page_of(who), {name: value for name, value in form.items() if value is not None})


def log_in(email: str, password: str) -> Client:
    client = Client()
    client.post(LOGIN, {"username": email, "password": password})
    return client


def is_in(client: Client) -> bool:
    return client.get(reverse("admin:index")).status_code == 200


# --- logging in -----------------------------------------------------------------------------------------------------


def test_one_logs_in_by_email_in_whatever_case_and_it_is_noted() -> None:
    who = User.objects.create_user("Olga@example.com", PASSWORD, role=Role.OPERATOR)
    assert is_in(log_in("olga@EXAMPLE.com", PASSWORD))
    who.refresh_from_db()
    assert who.last_login is not None
    assert not is_in(log_in("olga@example.com", "wrong"))


def test_a_user_who_is_switched_off_is_out_at_once(admin: User) -> None:
    who = User.objects.create_user("olga@example.com", PASSWORD, role=Role.OPERATOR)
    inside = log_in("olga@example.com", PASSWORD)
    assert is_in(inside)
    change(client_of(admin), who, is_active=None)
    assert not is_in(inside)
    assert not is_in(log_in("olga@example.com", PASSWORD))


def test_everybody_may_change_his_own_password() -> None:
    User.objects.create_user("vera@example.com", PASSWORD, role=Role.VIEWER)
    client = log_in("vera@example.com", PASSWORD)
    new = {"new_password1": "another " + PASSWORD, "new_password2": "another " + PASSWORD}
    response = client.post(reverse("admin:password_change"), {"old_password": PASSWORD, **new})
    assert response.status_code == 302
    assert is_in(log_in("vera@example.com", "another " + PASSWORD))


# --- making and changing users --------------------------------------------------------------------------------------


def test_an_admin_makes_a_user_who_can_log_in(admin: User) -> None:
    order = {"email": "olga@example.com", "role": "operator", "password1": PASSWORD, "password2": PASSWORD}
    response = client_of(admin).post(ADD, order, follow=True)
    made = User.objects.get(email="olga@example.com")
    assert response.redirect_chain[-1][0] == page_of(made)
    assert (made.role, made.is_active) == (Role.OPERATOR, True)
    assert is_in(log_in("olga@example.com", PASSWORD))
    text = response.content.decode()
    assert made.password not in text


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"email": "ADMIN@example.com"}, "email"),
        ({"email": "no address"}, "email"),
        ({"role": "king"}, "role"),
        ({"password2": "something else"}, "password2"),
        ({"password1": "short", "password2": "short"}, "password2"),
    ],
)
def test_a_user_who_cannot_be_is_refused_at_the_field(admin: User, wrong: dict[str, str], field: str) -> None:
    order = {"email": "olga@example.com", "role": "operator", "password1": PASSWORD, "password2": PASSWORD}
    response = client_of(admin).post(ADD, {**order, **wrong})
    assert set(response.context["adminform"].form.errors) == {field}
    assert User.objects.count() == 1


def test_an_admin_sets_the_password_of_another(admin: User) -> None:
    who = user(Role.VIEWER)
    url = reverse("admin:auth_user_password_change", args=[who.pk])
    client = client_of(admin)
    assert client.get(url).status_code == 200
    client.post(url, {"password1": PASSWORD, "password2": PASSWORD})
    assert is_in(log_in(who.email, PASSWORD))


def test_an_address_is_not_changed_to_one_that_is_taken(admin: User) -> None:
    who = user(Role.VIEWER)
    response = change(client_of(admin), who, email="Admin@Example.com")
    assert "email" in response.context["adminform"].form.errors


# --- the last admin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_down", [{"role": "viewer"}, {"is_active": None}])
def test_the_last_active_admin_stays_one(admin: User, step_down: dict[str, Any]) -> None:
    User.objects.create_user("gone@example.com", role=Role.ADMIN, is_active=False)
    response = change(client_of(admin), admin, **step_down)
    assert "the last active admin" in response.content.decode()
    admin.refresh_from_db()
    assert (admin.role, admin.is_active) == (Role.ADMIN, True)


@pytest.mark.parametrize("step_down", [{"role": "viewer"}, {"is_active": None}])
def test_one_of_two_admins_may_step_down(admin: User, step_down: dict[str, Any]) -> None:
    user(Role.ADMIN, "second")
    assert change(client_of(admin), admin, **step_down).status_code == 302


def test_the_last_active_admin_keeps_a_password(admin: User) -> None:
    admin.set_password(PASSWORD)
    admin.save()
    url = reverse("admin:auth_user_password_change", args=[admin.pk])
    response = client_of(admin).post(url, {"usable_password": "false", "unset-password": "yes"})
    assert "the last active admin" in response.content.decode()
    assert is_in(log_in(admin.email, PASSWORD))


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_an_admin_sets_the_password_of_another(role: Role, admin: User) -> None:
    url = reverse("admin:auth_user_password_change", args=[admin.pk])
    response = client_of(user(role)).post(url, {"password1": PASSWORD, "password2": PASSWORD})
    assert response.status_code == 403


def test_nobody_deletes_himself(admin: User) -> None:
    second = user(Role.ADMIN, "second")
    client = client_of(admin)
    assert client.post(reverse("admin:accounts_user_delete", args=[admin.pk]), {"post": "yes"}).status_code == 403
    assert client.post(reverse("admin:accounts_user_delete", args=[second.pk]), {"post": "yes"}).status_code == 302
    assert list(User.objects.all()) == [admin]


def test_a_user_with_keys_is_switched_off_and_not_deleted(admin: User) -> None:
    who = user(Role.OPERATOR)
    ApiKey.issue(owner_id=who.pk, name="script", scopes=["read"])
    client_of(admin).post(reverse("admin:accounts_user_delete", args=[who.pk]), {"post": "yes"})
    assert User.objects.filter(pk=who.pk).exists()


# --- keys at the router ---------------------------------------------------------------------------------------------


@pytest.fixture
def index() -> Iterator[redis.Redis]:
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def test_the_router_forgets_the_keys_of_a_user_who_is_switched_off(
    admin: User, index: redis.Redis, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    who = user(Role.OPERATOR)
    row, _ = ApiKey.issue(owner_id=who.pk, name="script", scopes=["inference"])
    key_index.publish(row)
    for is_active in (None, "on"):
        with django_capture_on_commit_callbacks(execute=True):
            change(client_of(admin), who, is_active=is_active)
        assert bool(index.exists(keys.api_key(row.sha256))) is (is_active is not None)


# --- the rest -------------------------------------------------------------------------------------------------------


def test_groups_are_not_to_be_seen() -> None:
    assert not django_admin.site.is_registered(Group)


def test_the_site_bears_the_projects_name_and_words(admin: User) -> None:
    text = client_of(admin).get(reverse("admin:index")).content.decode()
    for word in ("<title>Inventiv", "Access", "Fleet", "Routing"):
        assert word in text
    assert "Django" not in text


def test_the_list_takes_as_many_queries_for_thirty_users_as_for_one(
    admin: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = client_of(admin)
    client.get(LIST)
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for number in range(29):
        user(Role.VIEWER, f"user{number}")
    with django_assert_num_queries(len(few)):
        client.get(LIST)
