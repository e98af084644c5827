"""A line of JSON for every request, when it is over. Where none is wanted there is no object, and nothing is called.

Lines are gathered for a moment and handed over together; `line_writer` says who writes them, and why.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from routing import addresses
from routing.router.asgi import Scope
from routing.router.config import ConfigError
from routing.router.passage import Passage
from routing.router.sight.line_writer import LineWriter

_GATHER_FOR, _GATHER_BYTES = 0.1, 64 * 1024  # seconds; whichever comes first
_LAST_WRITE_WITHIN = 2.0  # seconds

# Filled in by hand: an encoder would take three times as long for the same line.
_LINE = (
    '{"time":"%s","request_id":%s,"client":%s,"key_id":%s,"operation":%s,"model":%s,"instance":%s,'
    '"status":%d,"error":%s,"streamed":%s,"attempts":%d,'
    '"duration_ms":%.3f,"queued_ms":%.3f,"selection_ms":%.3f,"sent_after_ms":%s,"first_byte_ms":%s,'
    '"input_tokens":%s,"output_tokens":%s,"cached_tokens":%s,"request_bytes":%d,"response_bytes":%d}\n'
)
_quoted = json.encoder.encode_basestring_ascii  # as JSON has it: nothing that a client sends breaks a line


class AccessLog:
    """`path`: of a file, or "-" for standard output. Raises ConfigError if it can't be opened.
    `trusted_proxies`: whose X-Forwarded-For is believed."""

    def __init__(self, path: str, *, trusted_proxies: Sequence[addresses.Network] = ()) -> None:
        try:
            self._writer = LineWriter(path)
        except OSError as error:
            raise ConfigError(f"ROUTER_ACCESS_LOG: can't open {path}: {error.strerror}") from None
        self._trusted_proxies = trusted_proxies
        self._lines: list[str] = []
        self._gathered = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, passage: Passage, scope: Scope) -> None:
        """Write down what the passage will not know afterwards."""
        peer, _ = scope["client"] or ("", 0)
        if not self._trusted_proxies:
            passage.client = peer
            return
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        passage.client = addresses.of_client(peer, forwarded=forwarded, trusted=self._trusted_proxies)

    def observe(self, passage: Passage) -> None:
        """The passage is over."""
        line = _line(passage)
        self._lines.append(line)
        self._gathered += len(line)
        if self._gathered >= _GATHER_BYTES:
            self._hand_over()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_FOR, self._hand_over)

    def reopen(self) -> None:
        """The file was moved away, so that another may be begun. Whoever forgets to say so loses nothing."""
        self._hand_over()
        self._writer.reopen()

    async def close(self) -> None:
        self._hand_over()
        await asyncio.to_thread(self._writer.close, within=_LAST_WRITE_WITHIN)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines = "".join(self._lines)
        self._lines.clear()
        self._gathered = 0
        self._writer.write(lines.encode("ascii"))


def _line(passage: Passage) -> str:
    """null: it did not come to that, or nobody has said."""
    began, tokens = passage.started, passage.tokens
    return _LINE % (
        datetime.now(UTC).isoformat(timespec="milliseconds"),
        _quoted(passage.request_id),
        _quoted(passage.client),
        _quoted(passage.key_id),
        _quoted(passage.operation),
        _quoted(passage.model_id),
        _quoted(passage.instance_id),
        passage.status,
        _quoted(passage.error_code),
        "true" if passage.streamed else "false",
        passage.attempts,
        (passage.ended_at - began) * 1000,
        passage.queued * 1000,
        passage.selected * 1000,
        f"{(passage.sent_at - began) * 1000:.3f}" if passage.sent_at else "null",
        f"{(passage.first_byte_at - began) * 1000:.3f}" if passage.first_byte_at else "null",
        "null" if tokens is None else tokens.input,
        "null" if tokens is None else tokens.output,
        "null" if tokens is None else tokens.cached,
        passage.request_bytes,
        passage.response_bytes,
    )
