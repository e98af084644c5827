"""Notices a client that leaves, in whatever the request waits for at that moment."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from routing.router.asgi import Receive, Scope

# In `scope["extensions"]` of a server that offers it: a callable that takes a callback. It calls that once, from the
# event loop, when the client hangs up before its answer is complete (soon, if it has already); so no task has to wait
# in `receive()` for that. Callbacks are forgotten at the request's end.
EXTENSION = "inventiv.on_disconnect"


class WhileConnected:
    """A block that is left, quietly, when the client hangs up; or when `total_timeout` seconds are over, which
    raises TimeoutError. `receive`: None if the request's body has not been read, so that where the server lacks our
    extension, nothing but sending to the client, or reading from him, tells that he has left."""

    __slots__ = (
        "_gone",
        "_late",
        "_loop",
        "_on_disconnect",
        "_over",
        "_receive",
        "_task",
        "_timer",
        "_total_timeout",
        "_watch",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive | None,
        *,
        total_timeout: float,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._on_disconnect = scope.get("extensions", {}).get(EXTENSION)
        self._receive = receive
        self._total_timeout = total_timeout
        self._watch: asyncio.Task[None] | None = None
        self._over = False
        self._gone = False
        self._late = False

    @property
    def gone(self) -> bool:
        """Whether the client hung up."""
        return self._gone

    def __enter__(self) -> Self:
        loop = self._loop
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - for the type checker
        self._task = task
        self._timer = loop.call_later(self._total_timeout, self._run_out)
        if self._on_disconnect is not None:
            self._on_disconnect(self._leave)
        elif self._receive is not None:
            self._watch = loop.create_task(self._wait_for_disconnect(self._receive))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._over = True
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if not (self._gone or self._late):
            return False
        others = self._task.uncancel()
        if kind is not asyncio.CancelledError or others > 0:  # others: the server cancels us as well
            return False
        if self._late:
            raise TimeoutError
        return True

    async def _wait_for_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if not (self._over or self._late):
            self._gone = True
            self._task.cancel()

    def _run_out(self) -> None:
        if not self._gone:
            self._late = True
            self._task.cancel()
