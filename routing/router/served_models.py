"""`GET /v1/models` and `/v1/models/{id}`: what can be asked for now."""

from __future__ import annotations

from typing import Any

from routing.discovery.directory import Directory, IndexLost
from routing.discovery.records import ServedModel
from routing.discovery.snapshot import Snapshot
from routing.router import errors
from routing.router.asgi import Scope, Send, answer_json
from routing.router.clients.admission import may_call
from routing.router.clients.authentication import authenticate

PATH = "/v1/models"


class ServedModels:
    def __init__(self, *, directory: Directory, snapshot: Snapshot) -> None:
        self._directory = directory
        self._snapshot = snapshot

    async def list_all(self, scope: Scope, send: Send) -> None:
        """The models with an instance that takes requests, as far as the key may call them. Raises ApiError."""
        key = await authenticate(scope["state"]["fields"], self._directory)
        served = [model for model in await self._served() if may_call(key, model.model_id)]
        served.sort(key=lambda model: model.model_id)
        body = {"object": "list", "data": [_object(model) for model in served]}
        await answer_json(send, body, request_id=scope["state"]["request_id"])

    async def retrieve(self, scope: Scope, send: Send) -> None:
        """One of them; its id or alias, which may hold slashes, is the rest of the path. Raises ApiError."""
        key = await authenticate(scope["state"]["fields"], self._directory)
        name = scope["path"].removeprefix(f"{PATH}/")
        known = self._snapshot.named(name)
        model_id = name if known is None else known.model_id
        for model in await self._served():
            if model.model_id == model_id and may_call(key, model_id):
                return await answer_json(send, _object(model), request_id=scope["state"]["request_id"])
        if known is not None and may_call(key, model_id):
            raise errors.none_ready(model_id)
        raise errors.model_not_found(name)

    async def _served(self) -> list[ServedModel]:
        try:
            return await self._directory.served_models()
        except IndexLost:
            if not self._snapshot.usable:
                raise errors.index_lost() from None
        return [model for model in self._snapshot.models.values() if self._snapshot.crowd(model.model_id).candidates]


def _object(model: ServedModel) -> dict[str, Any]:
    return {"id": model.model_id, "object": "model", "created": model.created, "owned_by": "inventiv"}
