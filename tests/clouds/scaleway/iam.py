"""`/iam/v1alpha1`: SSH keys, and whose an API key is."""

from __future__ import annotations

import hashlib

from tests.clouds.scaleway import errors
from tests.clouds.scaleway.exchange import Answer, Request, page_of, total_of
from tests.clouds.scaleway.state import Books, new_id


def list_ssh_keys(books: Books, request: Request) -> Answer:
    keys = list(books.ssh_keys.values())
    page = page_of(request, keys, books.faults)
    return Answer(200, {"ssh_keys": page, "total_count": total_of(keys, books.faults)})


def create_ssh_key(books: Books, request: Request) -> Answer:
    body, at = request.json(), books.stamp().isoformat().replace("+00:00", "Z")
    if len(str(body.get("public_key", "")).split()) < 2:
        raise errors.invalid_argument("public_key", "format")
    key = {
        "id": new_id(),
        "name": body.get("name") or "key",
        "public_key": body["public_key"],
        "fingerprint": "256 MD5:" + hashlib.sha256(body["public_key"].encode()).hexdigest()[:32],
        "created_at": at,
        "updated_at": at,
        "creation_info": None,
        "organization_id": books.project,
        "project_id": body.get("project_id") or books.project,
        "disabled": False,
    }
    books.ssh_keys[key["id"]] = key
    return Answer(200, key)


def read_api_key(books: Books, request: Request, access_key: str) -> Answer:
    return Answer(
        200,
        {
            "access_key": access_key,
            "secret_key": None,
            "application_id": "a4a2b1f0-0000-4000-8000-000000000001",
            "description": "inventiv",
            "created_at": "2026-07-01T00:00:00Z",
            "updated_at": "2026-07-01T00:00:00Z",
            "expires_at": None,
            "default_project_id": books.project,
            "editable": True,
            "deletable": True,
            "managed": False,
            "creation_ip": "203.0.113.1",
        },
    )
