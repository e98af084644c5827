"""The machines of a mock cloud whose `machines` are `simulated`, all of them in this process.

Each does over real HTTP, and from its own address, what the agent of a machine does (`fleet.agent`): it exchanges its
bootstrap token, says that it is ready, heartbeats, drains, until the cloud's books say that it is gone.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleet.agent.agent import DRAINING_INTERVAL, Backoff
from fleet.agent.cloud_init import CONFIG_PATH
from fleet.providers.mock.boot import parse
from fleet.providers.mock.store import Server, Store

_LOOK_EVERY = 0.5  # seconds between two looks at the books
_CALL_TIMEOUT = 15.0
_NO_ANSWER = 0


class Swarm:
    """Use it as a context: the machines live in a thread while the block runs."""

    def __init__(self, home: Path) -> None:
        self._store = Store(home)
        self._machines: dict[str, asyncio.Task[None]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow_the_books()), daemon=True)
        self.refusals: dict[str, int] = {}  # answers other than 200, by "what status"

    def __enter__(self) -> Swarm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    async def _follow_the_books(self) -> None:
        while not self._stopped.is_set():
            running = {server.id: server for server in await asyncio.to_thread(self._read)}
            for server_id in running.keys() - self._machines.keys():
                self._machines[server_id] = asyncio.create_task(self._live(running[server_id]))
            for server_id in self._machines.keys() - running.keys():
                self._machines.pop(server_id).cancel()
            await asyncio.sleep(_LOOK_EVERY)
        for machine in self._machines.values():
            machine.cancel()

    def _read(self) -> list[Server]:
        with self._store.transaction() as books:
            return books.running()

    async def _live(self, server: Server) -> None:
        config, token = agent_config(server), secrets.token_urlsafe(32)
        await self._bootstrap(server, config, token)
        while True:
            body = {"instance_id": config["instance_id"], "ready": True, "load": 0, "detail": "simulated"}
            answer = await self._ask("heartbeat", f"{config['router_url']}/internal/heartbeat", body, server, token)
            interval = DRAINING_INTERVAL if answer.get("drain") else float(config["heartbeat_interval"])
            await asyncio.sleep(interval * (1 - random.random() / 10))  # noqa: S311 - spreads them out

    async def _bootstrap(self, server: Server, config: Mapping[str, Any], token: str) -> None:
        backoff = Backoff(0.5, 15.0, random.random)
        body = {
            "instance_id": config["instance_id"],
            "bootstrap_token": config["bootstrap_token"],
            "agent_token": token,
        }
        url = f"{config['control_plane_url']}/internal/workers/bootstrap"
        while True:
            answer = await self._ask("bootstrap", url, body, server)
            if answer.get("engine_api_key"):
                return
            await asyncio.sleep(backoff.next())

    async def _ask(self, what: str, url: str, body: Mapping[str, Any], server: Server, token: str = "") -> Any:
        status, answer = await post(url, body, source=server.address, token=token)
        if status != 200:
            refusal = f"{what} {status or 'no answer'}"
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
        return answer if status == 200 else {}


def agent_config(server: Server) -> dict[str, Any]:
    """What the machine's user data tells its agent."""
    files = {entry["path"]: entry["content"] for entry in parse(server.user_data)["write_files"]}
    config: dict[str, Any] = json.loads(files[CONFIG_PATH])
    return config


async def post(url: str, body: Mapping[str, Any], *, source: str, token: str) -> tuple[int, Any]:
    """One request over a connection of its own, as the agent makes it. Returns status and JSON; 0 without an answer."""
    try:
        async with asyncio.timeout(_CALL_TIMEOUT):
            raw = await _exchange(url, json.dumps(body).encode(), source=source, token=token)
        head, _, content = raw.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)
    except (OSError, ValueError, IndexError):
        return _NO_ANSWER, {}


async def _exchange(url: str, body: bytes, *, source: str, token: str) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, local_addr=(source, 0))
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await reader.read()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
