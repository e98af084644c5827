"""`GET /metrics`: what the router has done and how it is, for Prometheus.

Counting costs a request about a microsecond; the rest is done when somebody asks, off the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

from routing.router.asgi import Scope, Send, header
from routing.router.passage import Passage
from routing.router.sight import counts as bounds
from routing.router.sight.counts import Counts, Key, Reading, Series
from routing.router.sight.operators import Operators
from routing.router.sight.shared_counts import SharedCounts

log = logging.getLogger(__name__)

PATH = "/metrics"
SAVE_EVERY = 1.0  # seconds

OTHER = "other"  # the label of whatever is one too many
_MOST_MODELS = 100  # as labels
_MOST_KINDS = 50  # of upstream errors


class Metrics:
    """`models`: the catalogue's, by id; no other name becomes a label, whatever a client asks for. `read`: how things
    are now. `shared`: where this process is one of several."""

    def __init__(
        self,
        *,
        models: Callable[[], Container[str]],
        read: Callable[[], Reading],
        operators: Operators,
        shared: SharedCounts | None = None,
    ) -> None:
        self._models = models
        self._read = read
        self._operators = operators
        self._shared = shared
        self._counts = Counts()
        self._series = self._counts.series
        self._labelled: set[str] = set()
        self._saving = asyncio.Lock()
        self._fails_to_save = False

    def observe(self, passage: Passage) -> None:
        """The passage is over."""
        key = (passage.model_id, passage.operation, passage.status, passage.error_code)
        series = self._series.get(key) or self._series_of(key)
        took = passage.ended_at - passage.started
        series.duration[bisect_left(bounds.DURATION, took)] += 1
        series.duration[-1] += took
        if passage.attempts:
            _observe_sent(series, passage)
        if passage.queued:
            series.queued[bisect_left(bounds.QUEUED, passage.queued)] += 1
            series.queued[-1] += passage.queued
        tokens = passage.tokens
        if tokens is not None:
            series.input[bisect_left(bounds.TOKENS, tokens.input)] += 1
            series.input[-1] += tokens.input
            series.output[bisect_left(bounds.TOKENS, tokens.output)] += 1
            series.output[-1] += tokens.output
            series.cached += tokens.cached

    def ejected(self, model_id: str) -> None:
        """An instance of this model was taken out of routing for its failures."""
        label = self._label(model_id)
        self._counts.ejections[label] = self._counts.ejections.get(label, 0) + 1

    def upstream_error(self, kind: str) -> None:
        """An instance did not answer as it should; `kind` is one of our words, such as an UpstreamError's name."""
        known = self._counts.upstream_errors
        if kind not in known and len(known) >= _MOST_KINDS:
            kind = OTHER
        known[kind] = known.get(kind, 0) + 1

    async def answer(self, scope: Scope, send: Send) -> None:
        """Raises ApiError: 404 for whoever is no operator."""
        self._operators.admit(scope)
        accept = (header(scope["headers"], b"accept") or b"").decode("latin-1")
        body, media_type = await self._page(accept)
        headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def save(self) -> None:
        """For the other processes to show; to be called every SAVE_EVERY seconds. Raises nothing for a full disk."""
        if self._shared is not None:
            await self._save(self._shared, self._reading())

    async def close(self) -> None:
        """What was counted stays; how things are is no longer said."""
        if self._shared is not None:
            await self._save(self._shared, None)
            self._shared.leave()

    async def _page(self, accept: str) -> tuple[bytes, str]:
        reading = self._reading()
        if self._shared is None:
            return await asyncio.to_thread(_render, self._counts.copy(), [reading], accept=accept)
        await self._save(self._shared, reading)
        return await asyncio.to_thread(_page_of_all, self._shared, accept)

    async def _save(self, shared: SharedCounts, reading: Reading | None) -> None:
        async with self._saving:  # an older state must not be written over a newer one
            try:
                await asyncio.to_thread(shared.write, self._counts.copy(), reading, now=time.time())
            except OSError as error:
                if not self._fails_to_save:
                    log.error("The metrics can't be written down for the other processes: %s", error)
                self._fails_to_save = True
            else:
                self._fails_to_save = False

    def _reading(self) -> Reading:
        reading = self._read()
        return replace(reading, running=self._labels(reading.running), waiting=self._labels(reading.waiting))

    def _labels(self, by_model: Mapping[str, int]) -> Mapping[str, int]:
        labelled: dict[str, int] = {}
        for model_id, count in by_model.items():
            label = self._label(model_id)
            labelled[label] = labelled.get(label, 0) + count
        return labelled

    def _series_of(self, key: Key) -> Series:
        model_id, operation, status, error_code = key
        key = (self._label(model_id), operation, status, error_code)
        known = self._series.get(key)
        if known is None:
            known = self._series[key] = Series()
        return known

    def _label(self, model_id: str) -> str:
        if not model_id or model_id in self._labelled:
            return model_id
        if len(self._labelled) >= _MOST_MODELS or model_id not in self._models():
            return OTHER
        self._labelled.add(model_id)
        return model_id


def _observe_sent(series: Series, passage: Passage) -> None:
    """What there is to know of a request that an instance was asked."""
    series.selected[bisect_left(bounds.SELECTED, passage.selected)] += 1
    series.selected[-1] += passage.selected
    series.retries += passage.attempts - 1
    if not passage.streamed or not passage.first_byte_at or passage.status >= 400 or passage.error_code:
        return
    waited = passage.first_byte_at - passage.started
    series.first_token[bisect_left(bounds.FIRST_TOKEN, waited)] += 1
    series.first_token[-1] += waited
    tokens = passage.tokens
    if tokens is not None and tokens.output > 1:
        each = (passage.ended_at - passage.first_byte_at) / (tokens.output - 1)
        series.per_token[bisect_left(bounds.PER_TOKEN, each)] += 1
        series.per_token[-1] += each


def _page_of_all(shared: SharedCounts, accept: str) -> tuple[bytes, str]:
    counts, readings = shared.read(now=time.time())
    return _render(counts, readings, accept=accept)


def _render(counts: Counts, readings: Sequence[Reading], *, accept: str) -> tuple[bytes, str]:
    # Prometheus' client is 3 MB that a process whom nobody asks can do without.
    from routing.router.sight.exposition import render

    return render(counts, readings, accept=accept)
