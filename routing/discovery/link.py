"""One connection to Redis for a whole event loop: commands written in one turn of the loop leave in one packet.

It connects again by itself for as long as it lives. While Redis is away, a command fails at once instead of waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from routing.discovery.redis_url import RedisAddress
from routing.discovery.scripts import Script

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # between two attempts to connect

Argument = str | bytes | int | float
_Waiting = tuple[float, "asyncio.Future[Any] | None", "Callable[[Any], None] | None"]  # since when, who, see `command`


class RedisAway(Exception):
    """Redis does not answer (not connected, too slow, or still loading): go on without it, or ask to try again."""


class Link:
    """`url` as redis-py takes it (redis://, rediss://, unix://); `scripts` are loaded on every connect.

    A command that takes longer than `timeout` seconds ends the connection: the answers behind it would be late too.
    `on_connect` is called whenever there is a connection again.
    """

    def __init__(self, url: str, *, scripts: Sequence[Script] = (), timeout: float = 1.0) -> None:
        self._address = RedisAddress.of(url)
        self._scripts = scripts
        self._timeout = timeout
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self.on_connect: Callable[[], None] | None = None

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.lost.done()

    async def start(self, *, wait: float) -> None:
        """Begin to connect, and wait up to `wait` seconds for it; Redis away is no error."""
        self._keeper = asyncio.get_running_loop().create_task(self._stay_connected())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connected.wait(), wait)

    async def close(self) -> None:
        """Let what was sent be answered (for at most the time-out), then hang up."""
        if self._connection is not None:
            with contextlib.suppress(RedisAway):
                await self.command("PING")
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def command(self, *parts: Argument, unwanted: Callable[[Any], None] | None = None) -> asyncio.Future[Any]:
        """Send a command. The answer: str, int, None, or a list of these. Raises RedisAway, now or when awaited.

        `unwanted` is called with the answer if the future has been cancelled before it came."""
        if self._connection is None:
            raise RedisAway("not connected")
        return self._connection.send(pack(parts), unwanted=unwanted)

    def post(self, *parts: Argument) -> None:
        """Send a command whose answer nobody waits for. Raises RedisAway if it can't be sent."""
        self.post_packed(pack(parts))

    def post_packed(self, packed: bytes) -> None:
        """The same, of a command that `pack` has made."""
        if self._connection is None:
            raise RedisAway("not connected")
        self._connection.enqueue(packed, None)

    def command_packed(self, packed: bytes, *, unwanted: Callable[[Any], None]) -> asyncio.Future[Any]:
        """As `command`, of a command that `pack` has made."""
        if self._connection is None:
            raise RedisAway("not connected")
        return self._connection.send(packed, unwanted=unwanted)

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        *arguments: Argument,
        unwanted: Callable[[Any], None] | None = None,
    ) -> asyncio.Future[Any]:
        return self.command(*script_call(script, keys, *arguments), unwanted=unwanted)

    async def _stay_connected(self) -> None:
        pause, was_away = _FIRST_PAUSE, False
        try:
            while True:
                try:
                    connection = await self._connect()
                except (OSError, TimeoutError, RedisAway) as error:
                    if not was_away:
                        log.warning("Redis is away: %s", error or type(error).__name__)
                    was_away = True
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                if was_away:
                    log.warning("Redis is back")
                pause, was_away = _FIRST_PAUSE, False
                self._connection = connection
                self._connected.set()
                if self.on_connect is not None:
                    self.on_connect()
                await asyncio.shield(connection.lost)
                self._connection = None
        finally:
            if self._connection is not None:
                self._connection.abort("closed by us")
                self._connection = None

    async def _connect(self) -> _Connection:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            connection = await self._open()
            try:
                await self._greet(connection)
            except BaseException:
                connection.abort("the greeting failed")
                raise
        return connection

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        address = self._address
        if address.path:
            _, connection = await loop.create_unix_connection(self._make, address.path)
            return connection
        tls = ssl.create_default_context() if address.tls else None
        _, connection = await loop.create_connection(self._make, address.host, address.port, ssl=tls)
        return connection

    def _make(self) -> _Connection:
        return _Connection(self._timeout)

    async def _greet(self, connection: _Connection) -> None:
        commands: list[tuple[Argument, ...]] = []
        address = self._address
        if address.password:
            user = [address.username] if address.username else []
            commands.append(("AUTH", *user, address.password))
        if address.db:
            commands.append(("SELECT", address.db))
        commands += [("SCRIPT", "LOAD", script.text) for script in self._scripts]
        commands.append(("PING",))
        await asyncio.gather(*(connection.send(pack(each)) for each in commands))


class _Connection(asyncio.Protocol):
    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace")
        self._waiting: deque[_Waiting] = deque()
        self._unsent: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def send(self, packed: bytes, *, unwanted: Callable[[Any], None] | None = None) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.enqueue(packed, answer, unwanted)
        return answer

    def enqueue(
        self, packed: bytes, waiter: asyncio.Future[Any] | None, unwanted: Callable[[Any], None] | None = None
    ) -> None:
        if self._transport is None or self._transport.is_closing():
            raise RedisAway("the connection was lost")
        self._waiting.append((self._loop.time(), waiter, unwanted))
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look_for_late)

    def abort(self, reason: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no instances of it

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while not self.lost.done() and (answer := self._reader.gets()) is not False:
                self._deliver(answer)
        except hiredis.ProtocolError as error:
            self.abort(f"not Redis' language: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the connection was lost")

    def _deliver(self, answer: Any) -> None:
        _, waiter, unwanted = self._waiting.popleft()
        if isinstance(answer, hiredis.HiredisError):
            self._refused(answer, waiter)
        elif waiter is not None and not waiter.done():
            waiter.set_result(answer)
        elif unwanted is not None:
            unwanted(answer)

    def _refused(self, error: Exception, waiter: asyncio.Future[Any] | None) -> None:
        log.error("Redis refused a command: %s", error)
        _fail(waiter, str(error))
        # It is loading, became a replica, or lost our scripts: a new connection begins with the greeting.
        self.abort(str(error))

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _look_for_late(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        overdue_at = self._waiting[0][0] + self._timeout
        if overdue_at <= self._loop.time():
            self.abort("no answer in time")
            return
        self._watch = self._loop.call_at(overdue_at, self._look_for_late)

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(None)
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            _, waiter, _ = self._waiting.popleft()
            _fail(waiter, reason)


def _fail(waiter: asyncio.Future[Any] | None, reason: str) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_exception(RedisAway(reason))
        waiter.exception()  # marks it as seen: whoever asked may have left


def script_call(script: Script, keys: Sequence[str], *arguments: Argument) -> tuple[Argument, ...]:
    """The command that runs it."""
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def pack(parts: tuple[Argument, ...]) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(parts)  # type: ignore[arg-type]  # its stub takes tuples of one only
    return packed
