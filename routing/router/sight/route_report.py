"""`GET /debug/route?model=`: where a request for a model would go now, and why not elsewhere. For operators."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from routing.discovery import route_report
from routing.discovery.directory import IndexLost
from routing.discovery.link import Link
from routing.discovery.records import Routing, ServedModel
from routing.discovery.route_report import Standing
from routing.router import errors
from routing.router.asgi import Scope, Send, answer_json
from routing.router.sight.operators import Operators

PATH = "/debug/route"

_MOST_SHOWN = 100  # instances
_FEW = 8  # up to so many, all are compared


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why an instance gets nothing. `kind`: "gone" | "status" | "unlisted" | "unhealthy" | "silent" | "ejected" |
    "full"; `reason`: in words."""

    kind: str
    reason: str


class RouteReport:
    """`stale_after`: seconds of silence after which an instance gets nothing."""

    def __init__(self, link: Link, *, operators: Operators, stale_after: float) -> None:
        self._link = link
        self._operators = operators
        self._stale_after = stale_after
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, scope: Scope, send: Send) -> None:
        """Raises ApiError: 404 for whoever is no operator, 400, 404 for an unknown model, 503 if the index is lost."""
        self._operators.admit(scope)
        (name,) = parse_qs(scope["query_string"].decode("latin-1")).get("model", [""])[:1]
        if not name:
            raise errors.bad_request("Say which model: /debug/route?model=...", param="model")
        async with self._one_at_a_time:
            try:
                report = await self._report(name)
            except IndexLost:
                raise errors.index_lost() from None
        await answer_json(send, report)

    async def _report(self, name: str) -> dict[str, Any]:
        known = await route_report.models(self._link)
        model = _named(name, known)
        if model is None:
            raise errors.model_not_found(name)
        members = await route_report.members(self._link, model.model_id)
        others = await route_report.others(self._link, model.model_id)
        judged = self._judge((*members.of, *others.of))
        fallbacks = [await self._fallback(model_id, known) for model_id in model.fallbacks]
        return {
            "asked_for": name,
            "model": _model(model),
            "fallbacks": fallbacks,
            "would_go_to": _destination(model, judged, fallbacks),
            "counts": _counts(judged, are_all=members.are_all and others.are_all),
            "instances": [_instance(standing, left_out) for standing, left_out in _shown(judged)],
        }

    async def _fallback(self, model_id: str, known: Sequence[ServedModel]) -> dict[str, Any]:
        if not any(model.model_id == model_id for model in known):
            return {"id": model_id, "known": False, "routed": 0}
        members = await route_report.members(self._link, model_id)
        return {"id": model_id, "known": True, "routed": len(_routed(self._judge(members.of)))}

    def _judge(self, standings: Sequence[Standing]) -> _Judged:
        return [(each, why_left_out(each, stale_after=self._stale_after)) for each in standings]


_Judged = list[tuple[Standing, LeftOut | None]]


def why_left_out(standing: Standing, *, stale_after: float) -> LeftOut | None:
    """None: it takes requests. The first reason that holds, in the order in which they would have to be mended."""
    if not standing.status:
        return LeftOut("gone", "its record is gone from Redis; the control plane's next rebuild sets that right")
    if standing.status != "READY":
        return LeftOut("status", f"it is {standing.status}, not READY")
    if not standing.is_member:
        return LeftOut(
            "unlisted", "it is READY, but not in the model's set; the next rebuild of the index sets that right"
        )
    if standing.silent_for is None:
        return LeftOut("silent", "it was never heard")
    if standing.silent_for > stale_after:
        return LeftOut("silent", f"silent for {standing.silent_for:.0f} s, and {stale_after:g} s are allowed")
    if not standing.ready:
        return LeftOut("unhealthy", f"its engine is not healthy: {standing.detail or 'it does not say why'}")
    if 0 < standing.capacity <= standing.load:
        return LeftOut("full", f"full: {standing.load} of {standing.capacity} requests")
    if standing.ejected_for:
        return LeftOut("ejected", _why_ejected(standing))
    return None


def _why_ejected(standing: Standing) -> str:
    if standing.is_probed:
        return f"ejected for its failures; a request is on its way to see (for {standing.ejected_for:.1f} s at most)"
    return f"ejected for its failures for another {standing.ejected_for:.1f} s (ejection {standing.ejections} in a row)"


def _named(name: str, known: Sequence[ServedModel]) -> ServedModel | None:
    """By its id, before another's alias."""
    for model in known:
        if model.model_id == name:
            return model
    return next((model for model in known if name in model.aliases), None)


def _routed(judged: _Judged) -> list[Standing]:
    """The least loaded first."""
    return sorted((standing for standing, left_out in judged if left_out is None), key=_relative_load)


def _relative_load(standing: Standing) -> float:
    """By which instances are compared: what it would have, for its speed."""
    return (standing.load + 1) / standing.weight


def _destination(model: ServedModel, judged: _Judged, fallbacks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    routed = _routed(judged)
    if routed:
        return {"instance_id": routed[0].instance_id, "how": _how(model, len(routed))}
    is_full = any(left_out is not None and left_out.kind == "full" for _, left_out in judged)
    ejected = [standing for standing, left_out in judged if left_out is not None and left_out.kind == "ejected"]
    if ejected and not is_full:
        best = min(ejected, key=_relative_load)
        return {"instance_id": best.instance_id, "how": "all are ejected: one of them is tried all the same"}
    for fallback in fallbacks:
        if fallback["routed"]:
            return {"model": fallback["id"], "how": "none of its own instances can answer: this fallback does"}
    if is_full:
        return {"how": "into the queue: its instances are full"}
    return {"how": "nowhere: it is refused with 503"}


def _how(model: ServedModel, number: int) -> str:
    least = (
        "the least loaded" if number <= _FEW else "the less loaded of two at random, of which none has less than this"
    )
    if model.routing is Routing.PREFIX:
        return f"where the conversation's beginning belongs, unless that carries more than its share; else {least}"
    return least


def _model(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.model_id,
        "name": model.name,
        "aliases": list(model.aliases),
        "routing": model.routing.value,
        "first_byte_timeout": model.first_byte_timeout,
    }


def _counts(judged: _Judged, *, are_all: bool) -> dict[str, Any]:
    left_out = Counter(left_out.kind for _, left_out in judged if left_out is not None)
    return {
        "instances": len(judged),
        "routed": len(judged) - left_out.total(),
        "left_out": dict(left_out),
        "complete": are_all,
    }


def _shown(judged: _Judged) -> _Judged:
    """Those that would be picked first, then those that are left out; of many, as many of each as there is room for."""
    routed: _Judged = [(standing, None) for standing in _routed(judged)]
    left_out = sorted((each for each in judged if each[1] is not None), key=lambda each: each[0].instance_id)
    room = max(_MOST_SHOWN // 2, _MOST_SHOWN - len(left_out))
    routed = routed[:room]
    return routed + left_out[: _MOST_SHOWN - len(routed)]


def _instance(standing: Standing, left_out: LeftOut | None) -> dict[str, Any]:
    return {
        "id": standing.instance_id,
        "routed": left_out is None,
        "why_not": left_out and left_out.reason,
        "status": standing.status,
        "address": standing.address,
        "load": standing.load,
        "worker_load": standing.worker_load,
        "capacity": standing.capacity or None,
        "weight": standing.weight,
        "silent_for_s": None if standing.silent_for is None else round(standing.silent_for, 1),
        "failures": standing.failures,
        "ejections": standing.ejections,
        "ejected_for_s": round(standing.ejected_for, 1),
        "detail": standing.detail,
        "interruption": standing.interruption,
    }
