"""`GET /v1/models` and `/v1/models/{id}`: what can be asked for now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from routing.discovery.directory import Directory, IndexLost
from routing.discovery.records import ServedModel
from routing.discovery.snapshot import Snapshot
from routing.router import errors
from routing.router.asgi import Scope, Send, answer_json
from routing.router.authentication import authenticate

PATH = "/v1/models"


class ServedModels:
    def __init__(self, *, directory: Directory, snapshot: Snapshot) -> None:
        self._directory = directory
        self._snapshot = snapshot

    async def list(self, scope: Scope, send: Send) -> None:
        """The models with at least one instance that takes requests. Raises ApiError."""
        await authenticate(scope["headers"], self._directory)
        served = sorted(await self._served(), key=lambda model: model.model_id)
        await answer_json(send, {"object": "list", "data": [_object(model) for model in served]})

    async def retrieve(self, scope: Scope, send: Send) -> None:
        """One of them; the id, which may hold slashes, is the rest of the path. Raises ApiError."""
        await authenticate(scope["headers"], self._directory)
        model_id = scope["path"].removeprefix(f"{PATH}/")
        for model in await self._served():
            if model.model_id == model_id:
                return await answer_json(send, _object(model))
        if model_id in self._snapshot.models:
            raise errors.none_ready(model_id)
        raise errors.model_not_found(model_id)

    async def _served(self) -> Sequence[ServedModel]:
        try:
            return await self._directory.served_models()
        except IndexLost:
            if not self._snapshot.usable:
                raise errors.index_lost() from None
        return [model for model in self._snapshot.models.values() if self._snapshot.targets(model.model_id)]


def _object(model: ServedModel) -> dict[str, Any]:
    return {"id": model.model_id, "object": "model", "created": model.created, "owned_by": "inventiv"}
