"""Which call is answered by what."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.clouds.scaleway import addresses, errors, iam, marketplace, products, security_groups, servers, volumes
from tests.clouds.scaleway.exchange import Answer, Request
from tests.clouds.scaleway.state import Books

Endpoint = Callable[..., Answer]

_INSTANCE = r"/instance/v1/zones/(?P<zone>[a-z]+-[a-z]+-\d)"
_SERVER = _INSTANCE + r"/servers/(?P<id_>[^/]+)"
_GROUP = _INSTANCE + r"/security_groups/(?P<id_>[^/]+)"
_BLOCK = r"/block/v1(?:alpha1)?/zones/(?P<zone>[a-z]+-[a-z]+-\d)/volumes"
_IAM = "/iam/v1alpha1"

_ROUTES: list[tuple[str, str, Endpoint]] = [
    ("GET", _INSTANCE + "/products/servers", products.listing),
    ("GET", _INSTANCE + "/products/servers/availability", products.availability),
    ("GET", _INSTANCE + "/servers", servers.listing),
    ("POST", _INSTANCE + "/servers", servers.create),
    ("GET", _SERVER, servers.read),
    ("PATCH", _SERVER, servers.update),
    ("DELETE", _SERVER, servers.delete),
    ("POST", _SERVER + "/action", servers.act),
    ("POST", _SERVER + "/attach-volume", servers.attach_volume),
    ("POST", _SERVER + "/detach-volume", servers.detach_volume),
    ("GET", _SERVER + "/user_data", servers.list_user_data),
    ("GET", _SERVER + "/user_data/(?P<key>[^/]+)", servers.read_user_data),
    ("PATCH", _SERVER + "/user_data/(?P<key>[^/]+)", servers.set_user_data),
    ("GET", _INSTANCE + "/ips", addresses.listing),
    ("POST", _INSTANCE + "/ips", addresses.create),
    ("GET", _INSTANCE + "/ips/(?P<id_>[^/]+)", addresses.read),
    ("PATCH", _INSTANCE + "/ips/(?P<id_>[^/]+)", addresses.update),
    ("DELETE", _INSTANCE + "/ips/(?P<id_>[^/]+)", addresses.delete),
    ("GET", _INSTANCE + "/security_groups", security_groups.listing),
    ("POST", _INSTANCE + "/security_groups", security_groups.create),
    ("GET", _GROUP, security_groups.read),
    ("PATCH", _GROUP, security_groups.update),
    ("DELETE", _GROUP, security_groups.delete),
    ("GET", _GROUP + "/rules", security_groups.list_rules),
    ("PUT", _GROUP + "/rules", security_groups.set_rules),
    ("GET", _BLOCK, volumes.listing),
    ("POST", _BLOCK, volumes.create),
    ("GET", _BLOCK + "/(?P<id_>[^/]+)", volumes.read),
    ("PATCH", _BLOCK + "/(?P<id_>[^/]+)", volumes.update),
    ("DELETE", _BLOCK + "/(?P<id_>[^/]+)", volumes.delete),
    ("GET", "/marketplace/v2/local-images", marketplace.listing),
    ("GET", _IAM + "/ssh-keys", iam.list_ssh_keys),
    ("POST", _IAM + "/ssh-keys", iam.create_ssh_key),
    ("GET", _IAM + "/api-keys/(?P<access_key>[^/]+)", iam.read_api_key),
]
_COMPILED = [(method, re.compile(pattern), endpoint) for method, pattern, endpoint in _ROUTES]


def answer(books: Books, request: Request) -> Answer:
    """One call, alone in the books. Raises Refused, Dropped or Hung for what is not answered as asked."""
    with books.lock:
        books.settle()
        books.faults.strike_call()
        if books.secret_key is not None and request.headers.get("x-auth-token") != books.secret_key:
            raise errors.denied_authentication()
        for method, pattern, endpoint in _COMPILED:
            match = pattern.fullmatch(request.path)
            if match is not None and method == request.method:
                return endpoint(books, request, **match.groupdict())
    raise errors.Refused(404, {"message": "unknown route"})  # without a type: it says nothing of any resource
