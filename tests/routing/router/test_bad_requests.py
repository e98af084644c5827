"""Whatever a client may send: a clear answer in OpenAI's envelope, and no worker is reached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.routing.router import engine as engines
from tests.routing.router.fleet import Fleet


async def ask(fleet: Fleet, method: str, path: str, *, body: bytes = b"", host: str = "localhost") -> httpx.Response:
    headers = fleet.headers | {"host": host}
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=headers, timeout=30) as client:
        return await client.request(method, path, content=body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe\x00", None),
        (b"[" * 100_000, None),
        (b"[]", None),
        (b"null", None),
        (b"{}", "model"),
        (b'{"model": null}', "model"),
        (b'{"model": ["a"]}', "model"),
        (b'{"model": ""}', "model"),
    ],
)
async def test_a_malformed_body_is_a_bad_request(fleet: Fleet, body: bytes, param: str | None) -> None:
    answer = await ask(fleet, "POST", "/v1/chat/completions", body=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


@pytest.mark.parametrize("model", ["x" * 100_000, "\ud800", "a\u0000b", "*", "{}", "a:instances"])
async def test_a_strange_model_is_not_found(fleet: Fleet, model: str) -> None:
    answer = await ask(fleet, "POST", "/v1/chat/completions", body=json.dumps({"model": model}).encode())

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_a_body_of_fifty_megabytes_is_too_large(fleet: Fleet) -> None:
    body = b'{"model": "%b", "x": "%b"}' % (fleet.model.encode(), b"x" * 50_000_000)

    answer = await ask(fleet, "POST", "/v1/chat/completions", body=body)

    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")


async def test_a_body_without_a_length_is_counted_while_it_is_read(fleet: Fleet) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1_000_000

    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=30) as client:
        answer = await client.post("/v1/chat/completions", content=chunks())

    assert answer.status_code == 413


async def test_an_unknown_path_is_not_found(fleet: Fleet) -> None:
    answer = await ask(fleet, "POST", "/v1/nonsense")

    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/healthz", "GET"),
        ("GET", "/internal/heartbeat", "POST"),
    ],
)
async def test_a_wrong_method_is_not_allowed(fleet: Fleet, method: str, path: str, allowed: str) -> None:
    answer = await ask(fleet, method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_a_host_that_is_not_ours_is_refused(fleet: Fleet) -> None:
    assert (await ask(fleet, "GET", "/v1/models", host="evil.example")).status_code == 400
    assert (await ask(fleet, "GET", "/v1/models", host="localhost:1234")).status_code == 200
    assert (await ask(fleet, "GET", "/healthz", host="10.0.0.1")).status_code == 200


async def test_without_a_key_nothing_is_read(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.router.url) as client:
        for headers in ({}, {"authorization": "Basic abc"}, {"authorization": "Bearer"}):
            answer = await client.post("/v1/chat/completions", content=b"{", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"


HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "content-length: 2\r\ncontent-length: 30\r\n\r\n{}",
        "content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "content-length: -1\r\n\r\n",
        "content-length: +2\r\n\r\n{}",
        "content-length: 99999999999999999999999\r\n\r\n{}",
        "content-length : 2\r\n\r\n{}",
        "host: other\r\ncontent-length: 2\r\n\r\n{}",
        "x: " + "y" * 70_000 + "\r\ncontent-length: 2\r\n\r\n{}",
        "bad header\r\n\r\n",
        "x: a\x00b\r\n\r\n",
    ],
)
async def test_hostile_framing_is_refused_and_reaches_nobody(fleet: Fleet, rest: str) -> None:
    async with engines.running(engines.answer(engines.chat_completion())) as engine:
        fleet.add(engine.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.router.port)

        writer.write((HEAD.format(key=fleet.key) + rest).encode())
        async with asyncio.timeout(5):
            status = await reader.readline()
        writer.close()

        assert status.split(b" ")[1] in (b"400", b"413", b"431")
        assert engine.connections_made == 0
