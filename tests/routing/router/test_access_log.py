"""The access log: what a line says, and that nobody ever waits for it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from routing import addresses
from routing.router.config import ConfigError
from routing.router.passage import Passage, Tokens
from routing.router.sight.access_log import AccessLog
from routing.router.sight.line_writer import LineWriter
from tests.routing.router.fleet import until


def passage(request_id: str = "id") -> Passage:
    return Passage(
        request_id,
        "chat",
        started=100.0,
        key_id="7",
        model_id="org/model",
        instance_id="i-1",
        streamed=True,
        attempts=2,
        queued=0.25,
        selected=0.0004,
        sent_at=100.3,
        first_byte_at=100.5,
        ended_at=102.0,
        status=200,
        tokens=Tokens(input=10, output=20, cached=5),
        request_bytes=400,
        response_bytes=900,
        client="192.0.2.7",
    )


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_line_tells_a_request(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.observe(passage())
    await log.close()

    (line,) = lines(path)

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "request_id": "id",
        "client": "192.0.2.7",
        "key_id": "7",
        "operation": "chat",
        "model": "org/model",
        "instance": "i-1",
        "status": 200,
        "error": "",
        "streamed": True,
        "attempts": 2,
        "duration_ms": 2000,
        "queued_ms": 250,
        "selection_ms": 0.4,
        "sent_after_ms": 300,
        "first_byte_ms": 500,
        "input_tokens": 10,
        "output_tokens": 20,
        "cached_tokens": 5,
        "request_bytes": 400,
        "response_bytes": 900,
    }


async def test_what_did_not_happen_is_null(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.observe(Passage("id", "chat", started=1.0, ended_at=2.0, status=401))
    await log.close()

    (line,) = lines(path)

    assert [line[name] for name in ("sent_after_ms", "first_byte_ms", "input_tokens")] == [None, None, None]


@pytest.mark.parametrize("request_id", ['"},{"', "a\\", "\n", "\u2028", "\ud800"])
async def test_nothing_that_a_client_sends_breaks_a_line(request_id: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.observe(passage(request_id))
    await log.close()

    (line,) = lines(path)

    assert line["request_id"] == request_id


@pytest.mark.parametrize(("trusted", "client"), [((), "10.0.0.1"), (addresses.networks(["10.0.0.1"]), "192.0.2.7")])
async def test_a_client_is_who_a_trusted_proxy_says(
    trusted: tuple[addresses.Network, ...], client: str, tmp_path: Path
) -> None:
    log = AccessLog(str(tmp_path / "access.log"), trusted_proxies=trusted)
    begun = Passage("id", "chat")

    log.begin(begun, {"client": ("10.0.0.1", 4711), "headers": [(b"x-forwarded-for", b"192.0.2.7")]})

    assert begun.client == client
    await log.close()


async def test_lines_are_written_soon(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))

    log.observe(passage())

    assert path.read_text() == ""
    await until(lambda: len(lines(path)) == 1)
    await log.close()


async def test_many_lines_do_not_even_wait_for_the_event_loop(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))

    for _ in range(500):
        log.observe(passage())

    deadline = time.monotonic() + 10
    while not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is to have no turn
    await log.close()
    assert len(lines(path)) == 500


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_file_that_is_moved_away_is_begun_anew(is_told: bool, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.observe(passage("before"))
    await until(lambda: len(lines(path)) == 1)

    path.rename(tmp_path / "access.log.1")
    if is_told:
        log.reopen()
        await until(path.exists)
    log.observe(passage("after"))
    await log.close()

    assert [line["request_id"] for line in lines(tmp_path / "access.log.1")] == ["before"]
    assert [line["request_id"] for line in lines(path)] == ["after"]


async def test_a_full_disk_is_said_once_and_lets_the_router_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, roomy = tmp_path / "access.log", tmp_path / "roomy.log"
    path.symlink_to("/dev/full")
    writer = LineWriter(str(path))
    for _ in range(3):
        writer.write(b"lost\n")
    await until(lambda: len(caplog.records) == 1)

    path.unlink()
    path.symlink_to(roomy)
    writer.write(b"kept\n")
    writer.close(within=10)

    assert roomy.read_text() == "kept\n"
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "No space left" in caplog.text
    assert "3 lines were lost" in caplog.text


async def test_a_reader_who_stops_reading_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(path), most_waiting=100_000)
    line = b"x" * 999 + b"\n"

    for _ in range(1000):
        writer.write(line)

    assert "lines are lost" in caplog.text
    assert len(caplog.records) == 1
    received = await asyncio.to_thread(read_all, reader, writer)
    assert 100 <= received.count(line) < 1000
    assert received == line * received.count(line)


def read_all(reader: int, writer: LineWriter) -> bytes:
    os.set_blocking(reader, True)
    received = b""
    writer.close(within=0)  # it ends when all is read
    while chunk := os.read(reader, 65536):
        received += chunk
    return received


def test_processes_that_share_a_pipe_never_mix_their_lines(tmp_path: Path) -> None:
    code = (
        "import sys; from routing.router.sight.line_writer import LineWriter\n"
        "writer = LineWriter('-')\n"
        "for _ in range(40): writer.write((sys.argv[1] * 600 + '\\n').encode() * 100)\n"
        "writer.close(within=60)"
    )
    reading, writing = os.pipe()
    started = [subprocess.Popen([sys.executable, "-c", code, mark], stdout=writing) for mark in "abc"]
    os.close(writing)

    with os.fdopen(reading, "rb") as pipe:
        received = pipe.read().splitlines()

    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    assert len(received) == 12_000
    assert set(received) == {mark * 600 for mark in (b"a", b"b", b"c")}


def test_a_path_that_cannot_be_opened_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ROUTER_ACCESS_LOG: .*No such file"):
        AccessLog(str(tmp_path / "nowhere" / "access.log"))
