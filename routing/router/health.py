"""`/healthz`: the process lives. `/readyz`: it can route."""

from __future__ import annotations

from routing.discovery.snapshot import Snapshot
from routing.router.asgi import Send, answer_json


class Health:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.stopping = False

    async def alive(self, send: Send) -> None:
        await answer_json(send, {"status": "ok"})

    async def ready(self, send: Send) -> None:
        reason = self._why_not()
        if reason:
            await answer_json(send, {"status": "unavailable", "reason": reason}, status=503)
        else:
            await answer_json(send, {"status": "ok"})

    def _why_not(self) -> str:
        if self.stopping:
            return "the router is being stopped"
        if not self._snapshot.usable:
            return "the discovery index could not be read lately: is Redis away, or not filled yet?"
        return ""
