"""What an answer says of its cost: the usage that the engine reports, read while the answer goes by.

Nothing here raises, whatever an engine sends: what can't be read is passed on, and counts as no usage.
"""

from __future__ import annotations

import json
import re
from typing import Any

from routing.router.bodies.surfaces import Surface
from routing.router.passage import Tokens

_USAGE = b'"usage"'  # inside a text JSON writes \"usage\", so these bytes are a key, or a text that is this one word
_NO_USAGE = re.compile(rb'"usage"\s*:\s*null')
_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*(?=\{)')
_LONGEST_USAGE = 4 * 1024  # bytes

_BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")  # each ends an event
_BLANK_LINE = re.compile(rb"\n\n|\n\r\n|\r\r")
_LONGEST_EVENT = 1024 * 1024  # bytes that are held of an event until it is whole
_LARGE_ANSWER = 64 * 1024  # bytes; of a larger one in one piece only what looks like its usage is read

_MOST_TOKENS = 2**53  # what counts more is no count

_DECODER = json.JSONDecoder()
_Json = dict[str, Any]


def tap_for(surface: Surface, *, streamed: bool, hide_usage: bool) -> Tap:
    """`streamed`: the answer is server-sent events. `hide_usage`: the client did not ask for their usage, we did."""
    if streamed:
        return _HidingTap(surface) if hide_usage else _EventsTap(surface)
    return _AnswerTap(surface) if surface.usage_of else Tap()


class Tap:
    """An answer's bytes go through it in the order in which they came. This one looks at nothing."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events = 0  # that brought a piece of the answer: about as many as it has tokens

    def feed(self, chunk: bytes) -> bytes:
        """What of it and of what was held is to be sent on: the chunk itself where nothing changes; maybe nothing."""
        return chunk

    def finish(self) -> bytes:
        """What is still held, once the answer has come to its end. What is held of an answer that broke off is half
        an event, and better not sent."""
        return b""

    @property
    def at_event_end(self) -> bool:
        """Whether what was given out ends with an event, so that one of ours may follow."""
        return True

    @property
    def tokens(self) -> Tokens | None:
        """As the engine counted them; None = it has not said. Of an answer in one piece, after `finish`."""
        return None


class _EventsTap(Tap):
    """Reads along and gives out all as it came."""

    __slots__ = ("_content_mark", "_held", "_usage", "_usage_of")

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self._content_mark = surface.content_mark
        self._usage_of = surface.usage_of
        self._usage: _Json = {}
        self._held = bytearray()  # the beginning of an event that is not whole

    def feed(self, chunk: bytes) -> bytes:
        # Nearly every chunk is whole events without usage. (`find`, since `in` tries to take bytes for a number first.)
        if not self._held and chunk.endswith(_BLANK_LINES):
            if chunk.find(_USAGE) < 0:
                self.events += chunk.count(self._content_mark)
            else:
                self._read(chunk)
        else:
            self._held += chunk
            self._read(self._take_whole(len(chunk)))
            if len(self._held) > _LONGEST_EVENT:
                del self._held[:-2]
        return chunk

    def finish(self) -> bytes:
        self._read(bytes(self._held))
        return b""

    @property
    def at_event_end(self) -> bool:
        return not self._held

    @property
    def tokens(self) -> Tokens | None:
        return _tokens(self._usage)

    def _read(self, events: bytes) -> None:
        self.events += events.count(self._content_mark)
        if _may_tell_usage(events):
            for event in _split(events):
                self._read_event(event)

    def _read_event(self, event: bytes) -> _Json | None:
        """Its data, if it tells a usage."""
        data = _object(b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")))
        usage = _usage_in(data, self._usage_of)
        # Anthropic tells the input at the beginning and the output at the end.
        self._usage.update((name, value) for name, value in usage.items() if value is not None)
        return data if usage else None

    def _take_whole(self, new: int) -> bytes:
        """What is held, up to the end of its last whole event. All but the last `new` bytes were searched before."""
        held = self._held
        since = max(len(held) - new - 2, 0)
        ends = [at + len(line) for line in _BLANK_LINES if (at := held.rfind(line, since)) >= 0]
        if not ends:
            return b""
        whole = bytes(held[: max(ends)])
        del held[: max(ends)]
        return whole


class _HidingTap(_EventsTap):
    """Gives out whole events, but for the one that brings the usage and nothing else."""

    __slots__ = ("_cut",)

    def __init__(self, surface: Surface) -> None:
        super().__init__(surface)
        self._cut = False  # a part of an event that is too long to be held was given out, and its end was not

    def feed(self, chunk: bytes) -> bytes:
        if not self._held and chunk.endswith(_BLANK_LINES):
            if chunk.find(_USAGE) < 0:
                self.events += chunk.count(self._content_mark)
                return chunk
            return self._sift(chunk)
        self._held += chunk
        whole = self._take_whole(len(chunk))
        self._cut = self._cut and not whole
        out = self._sift(whole)
        if len(self._held) > _LONGEST_EVENT:
            self._cut = True
            out += self._held[:-2]  # these two may begin the blank line
            del self._held[:-2]
        return out

    def finish(self) -> bytes:
        rest = bytes(self._held)
        self._held.clear()
        return self._sift(rest)

    @property
    def at_event_end(self) -> bool:
        return not self._cut

    def _sift(self, events: bytes) -> bytes:
        self.events += events.count(self._content_mark)
        if not _may_tell_usage(events):
            return events
        shown = b"".join([self._shown(event) for event in _split(events)])
        return shown if len(shown) < len(events) else events

    def _shown(self, event: bytes) -> bytes:
        data = self._read_event(event)
        if data is None or data.get("choices") != []:
            return event
        # Blank lines in front of it belong to what came before: so it makes no difference where the network cut.
        return event[: len(event) - len(event.lstrip(b"\r\n"))]


class _AnswerTap(Tap):
    """An answer in one piece."""

    __slots__ = ("_pieces", "_size", "_tokens", "_usage_of")

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self._usage_of = surface.usage_of
        self._tokens: Tokens | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        self._pieces.append(chunk)
        self._size += len(chunk)
        if self._size > _LARGE_ANSWER:
            # A usage that the chunk's end cuts in two is found again with the next.
            window = b"".join(self._pieces)
            self._tokens = _last_tokens(window) or self._tokens
            self._pieces = [window[-_LONGEST_USAGE:]]
        return chunk

    def finish(self) -> bytes:
        if self._size <= _LARGE_ANSWER:
            answer = b"".join(self._pieces)
            # What stands there once need not be told from the like inside a tool's arguments.
            once = answer.count(_USAGE) == 1
            self._tokens = _last_tokens(answer) if once else _tokens(_usage_in(_object(answer), self._usage_of))
        self._pieces.clear()
        return b""

    @property
    def tokens(self) -> Tokens | None:
        return self._tokens


def _split(events: bytes) -> list[bytes]:
    starts = [0, *(found.end() for found in _BLANK_LINE.finditer(events))]
    return [events[start:end] for start, end in zip(starts, [*starts[1:], len(events)], strict=True) if start < end]


def _may_tell_usage(events: bytes) -> bool:
    """Some engines write `"usage":null` into each event."""
    told = events.count(_USAGE)
    return told > 0 and len(_NO_USAGE.findall(events)) < told


def _object(raw: bytes) -> _Json:
    try:
        data = _DECODER.decode(str(raw, "utf-8"))
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _last_tokens(data: bytes) -> Tokens | None:
    """Of the last object in it that is called "usage" and counts something."""
    at = data.rfind(_USAGE)
    while at >= 0:
        found = _USAGE_OBJECT.match(data, at)
        if found and (tokens := _tokens(_object_at(data, found.end()))):
            return tokens
        at = data.rfind(_USAGE, 0, at)
    return None


def _object_at(data: bytes, start: int) -> _Json:
    try:
        found, _ = _DECODER.raw_decode(data[start : start + _LONGEST_USAGE].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _usage_in(data: _Json, usage_of: tuple[str, ...]) -> _Json:
    for key in usage_of:
        holder = data.get(key) if key else data
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            return usage
    return {}


def _tokens(usage: _Json) -> Tokens | None:
    """In OpenAI's names or in Anthropic's. A reranker tells the total alone, a transcription only seconds."""
    get = usage.get
    input = _count(get("prompt_tokens", get("input_tokens", get("total_tokens"))))
    output = _count(get("completion_tokens", get("output_tokens")))
    if input is None and output is None:
        return None
    details = get("prompt_tokens_details", get("input_tokens_details"))
    cached = (_count(details.get("cached_tokens")) if isinstance(details, dict) else None) or 0
    # Anthropic's `input_tokens` leave out what went through the cache.
    read, written = _count(get("cache_read_input_tokens")) or 0, _count(get("cache_creation_input_tokens")) or 0
    return Tokens(input=(input or 0) + read + written, output=output or 0, cached=cached + read)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None
