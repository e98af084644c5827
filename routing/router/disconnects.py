"""Notices a client that leaves, in whatever the request waits for at that moment."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from routing.router.asgi import Receive


class WhileConnected:
    """A block that is left, quietly, when the client hangs up; or when `total_timeout` seconds are over, which
    raises TimeoutError. The request's body must have been read."""

    def __init__(self, receive: Receive, *, total_timeout: float) -> None:
        self._receive = receive
        self._total_timeout = total_timeout
        self._gone = False
        self._late = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._task = task
        self._watch = loop.create_task(self._wait_for_disconnect())
        self._timer = loop.call_later(self._total_timeout, self._run_out)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        self._watch.cancel()
        if kind is not asyncio.CancelledError or not (self._gone or self._late):
            return False
        if self._task.uncancel() > 0:
            return False  # the server cancels us as well
        if self._late:
            raise TimeoutError
        return True

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._late:
            self._gone = True
            self._task.cancel()

    def _run_out(self) -> None:
        if not self._gone:
            self._late = True
            self._task.cancel()
