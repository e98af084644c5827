"""What a request's body says: which model, how much, and where its conversation begins. No I/O; on the hot path."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from routing.router import errors
from routing.router.bodies.surfaces import Surface

# What is wrong with a form is told to the client, who could fill our log with it.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

_LONGEST_MODEL_ID = 512
_LONGEST_FIELD = 64  # bytes of the other form fields that are read; they hold a word

_BYTES_PER_TOKEN = 4
_DEFAULT_OUTPUT = 1024  # tokens, where the request sets no limit
_MOST_OUTPUT = 1_000_000  # tokens; whatever a request says
_MOST_CHOICES = 128  # as OpenAI allows
_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_SMALL_BODY = 16 * 1024  # bytes; above it images and sound are taken out of the estimate
_MEDIUM = 1024  # tokens of one image or sound
_MEDIA_KEYS = frozenset({"url", "image_url", "data", "file_data"})
_DEPTH = 6  # of a message, beyond which nothing is looked for: a body may be nested a thousand times

_PIECE = 4 * 1024  # bytes of a conversation's head, and again of its first question, that tell it from others
_PROMPT_HEAD = 1024  # characters
_PROMPT_HEAD_TOKENS = 256
# A coding agent's client puts a block in front of its system prompt that differs with every request; vLLM leaves it out
# as well.
_CHANGING_BLOCK = "x-anthropic-billing-header"

_BOM = b"\xef\xbb\xbf"
_ASK_USAGE = b'"stream_options":{"include_usage":true},'
_WHITESPACE = " \t\n\r"
_YES = frozenset({"true", "1", "yes", "on", "t", "y"})  # as the engine's pydantic reads a truth value out of text

_Json = dict[str, Any]


def read_json(body: bytes, surface: Surface) -> Asked:
    """Parsed, never searched for: the word "model" may stand inside a message. Raises ApiError."""
    try:
        request = _DECODER.decode(_text_of(body))
    except (ValueError, RecursionError):  # not UTF-8, not JSON, NaN, a number of 5,000 digits; nested too deeply
        raise errors.bad_request("The request's body is not valid JSON") from None
    if not isinstance(request, dict):
        raise errors.bad_request("The request's body must be a JSON object")
    return Asked(body, request, surface, model=_model(request.get("model")))


def _text_of(body: bytes) -> str:
    return str(body[len(_BOM) :] if body.startswith(_BOM) else body, "utf-8")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _model(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise errors.bad_request("'model' must be the id of a model, as /v1/models lists them", param="model")
    if len(name) > _LONGEST_MODEL_ID or not (name.isascii() or _is_text(name)):
        raise errors.model_not_found(name[:_LONGEST_MODEL_ID])
    return name


def _is_text(name: str) -> bool:
    """JSON can spell half a character (a lone surrogate), which no encoding can write."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Asked:
    """A request in JSON.

    Of a key that stands twice the last is taken, as by the engines. One that took the first would get another model's
    name, and refuse it: an engine serves one model.
    """

    resendable = True
    __slots__ = ("_body", "_prompt", "_request", "_surface", "model", "streamed", "wants_usage")

    def __init__(self, body: bytes, request: _Json, surface: Surface, *, model: str) -> None:
        self._body = body
        self._request = request
        self._surface = surface
        self._prompt = -1  # tokens; not counted yet
        self.model = model
        self.streamed = surface.streams and _is_true(request.get("stream"))
        # False: the client left it out of a stream, so if it is asked for, it is not to be shown to him.
        self.wants_usage = not (self.streamed and surface.usage_on_demand and _leaves_usage_out(request))

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self._body)

    @property
    def prompt_estimate(self) -> int:
        """Tokens of the input."""
        if self._prompt < 0:
            self._prompt = _prompt_tokens(self._request, self._body)
        return self._prompt

    @property
    def token_estimate(self) -> int:
        """What to reserve before the engine has counted: of input and output together."""
        output = _output_tokens(self._request) if self._surface.generates else 0
        return self.prompt_estimate + output

    def forget(self) -> None:
        """The engine has begun to answer, and nobody will be asked again: a stream may last for an hour, and its
        request needn't. What is known of it stays."""
        self._prompt = self.prompt_estimate
        self._body, self._request = b"", {}

    def prefix(self) -> bytes | None:
        """The beginning of the conversation, the same for each of its turns; at most some 8 KB. None = it has none."""
        head = _HEADS.get(self._surface.operation)
        return head(self._request) or None if head is not None else None

    def body_for(self, model_id: str, *, ask_usage: bool) -> bytes:
        """What the engine is to get: the client's own bytes, with no more changed than has to be. `ask_usage`: a
        stream's usage is wanted even if the client has left it out. Raises ApiError."""
        ask_usage = ask_usage and not self.wants_usage
        if model_id == self.model:
            if not ask_usage:
                return self._body
            if "stream_options" not in self._request:
                after_brace = self._body.index(b"{") + 1
                return self._body[:after_brace] + _ASK_USAGE + self._body[after_brace:]
        changes: _Json = {}
        if model_id != self.model:
            changes["model"] = model_id
        if ask_usage:
            changes["stream_options"] = _asking(self._request.get("stream_options"))
        try:
            return _with_values(_text_of(self._body), changes).encode()
        except RecursionError:  # it was read with more of the stack left
            raise errors.bad_request("The request's body is nested too deeply") from None


def _is_true(value: object) -> bool:
    if value is True or value is None or value is False:
        return value is True
    return value == 1 or (isinstance(value, str) and value.lower() in _YES)


def _leaves_usage_out(request: _Json) -> bool:
    """In options without `include_usage` vLLM takes it for true (its `StreamOptions`). What the engine will refuse, as
    options that are no object, is left to it."""
    options = request.get("stream_options")
    if options is None:
        return True
    return isinstance(options, dict) and options.get("include_usage", True) in (None, False)


def _asking(options: _Json | None) -> _Json:
    """`continuous_usage_stats` has no effect without usage, and with it would put some into every event."""
    rest = {name: value for name, value in (options or {}).items() if name != "continuous_usage_stats"}
    return rest | {"include_usage": True}


def _with_values(text: str, changes: _Json) -> str:
    """The JSON object in `text` with the values of these keys replaced or added. All else stays as it is written:
    serialised anew, numbers would lose digits and 1e999 would become `Infinity`."""
    missing = dict(changes)
    pieces: list[str] = []
    copied = 0
    for key, start, end in _members(text):
        if key in changes:
            pieces += text[copied:start], json.dumps(changes[key])
            copied = end
            missing.pop(key, None)
    pieces.append(text[copied:])
    if missing:
        at = pieces[0].index("{") + 1
        added = "".join(f"{json.dumps(key)}:{json.dumps(value)}," for key, value in missing.items())
        pieces[0] = pieces[0][:at] + added + pieces[0][at:]
    return "".join(pieces)


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """Key, and the span of its value, of each member of a valid object that is not empty."""
    at = _past_space(text, text.index("{") + 1)
    while True:
        key, at = _DECODER.raw_decode(text, at)
        start = _past_space(text, _past_space(text, at) + 1)  # past the colon
        _, end = _DECODER.raw_decode(text, start)
        yield key, start, end
        at = _past_space(text, end)
        if text[at] == "}":
            return
        at = _past_space(text, at + 1)  # past the comma


def _past_space(text: str, at: int) -> int:
    while text[at] in _WHITESPACE:
        at += 1
    return at


# --- how much ---


def _prompt_tokens(request: _Json, body: bytes) -> int:
    size, media = len(body), 0
    if size > _SMALL_BODY:
        for name in ("messages", "input"):
            for each in _media_in(request.get(name), _DEPTH):
                size -= each
                media += 1
    return size // _BYTES_PER_TOKEN + media * _MEDIUM


def _media_in(value: object, depth: int) -> Iterator[int]:
    """Sizes of the images and sounds that stand in it, encoded."""
    if depth == 0:
        return
    if isinstance(value, list):
        for each in value:
            if not isinstance(each, str | int | float):
                yield from _media_in(each, depth - 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in _MEDIA_KEYS and isinstance(each, str):
                yield len(each)
            elif isinstance(each, dict | list):
                yield from _media_in(each, depth - 1)


def _output_tokens(request: _Json) -> int:
    limits = [limit for name in _OUTPUT_LIMITS if (limit := _count(request.get(name), _MOST_OUTPUT)) is not None]
    choices = _count(request.get("n"), _MOST_CHOICES) or 1
    return (limits[0] if limits else _DEFAULT_OUTPUT) * choices


def _count(value: object, most: int) -> int | None:
    """None = it isn't one, and the engine will refuse it."""
    if type(value) is not int or value < 0:
        return None
    return min(value, most)


# --- where a conversation begins ---


def _head_of_messages(request: _Json) -> bytes:
    """Of chat and of Anthropic's messages, whose system prompt stands beside them."""
    return _head(request.get("system"), request.get("messages"))


def _head_of_input(request: _Json) -> bytes:
    """Of Responses: `input` is a question or a list of items."""
    asked = request.get("input")
    return _head(request.get("instructions"), [{"role": "user", "content": asked}] if isinstance(asked, str) else asked)


def _head(system: object, messages: object) -> bytes:
    before = [*_said(system)]
    question: list[str] = []
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        if message.get("role") == "user":
            question = [*_said(message.get("content"))]
            break
        before += _said(message.get("content"))
    # Each has room of its own: a long system prompt that many conversations share would leave none to the question,
    # and they would all be one.
    return _mark("\0".join(before)) + b"\0" + _mark("\0".join(question)) if before or question else b""


def _said(content: object, depth: int = _DEPTH) -> Iterator[str]:
    """The text and the media of a message's content. Nothing else of it: clients move `cache_control` from turn to
    turn, and write the same text now as a string, now as a part."""
    if depth == 0:
        return
    if isinstance(content, str):
        if not content.startswith(_CHANGING_BLOCK):
            yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict):
                text = part.get("text", part.get("content"))
                yield from _said(text, depth - 1) if text is not None else _media(part, _DEPTH)
            elif isinstance(part, str):
                yield part


def _media(part: _Json, depth: int) -> Iterator[str]:
    for key, value in part.items():
        if isinstance(value, str) and key in _MEDIA_KEYS:
            yield value
        elif isinstance(value, dict) and depth > 0:
            yield from _media(value, depth - 1)


def _mark(text: str) -> bytes:
    """The text, or what tells a long one from others."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= _PIECE:
        return data
    return data[:_PIECE] + b"%d %d" % (len(data), zlib.crc32(data))


def _head_of_prompt(request: _Json) -> bytes:
    """Of completions: a text, tokens, or a list of either."""
    prompt = request.get("prompt")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt[:_PROMPT_HEAD].encode("utf-8", "surrogatepass")
    if isinstance(prompt, list):
        tokens = [str(token) for token in prompt[:_PROMPT_HEAD_TOKENS] if type(token) is int]
        return ",".join(tokens)[:_PIECE].encode()
    return b""


_HEADS: dict[str, Callable[[_Json], bytes]] = {
    "chat": _head_of_messages,
    "messages": _head_of_messages,
    "responses": _head_of_input,
    "completions": _head_of_prompt,
}


# --- forms ---


class FormReader:
    """Reads along while a form of multipart/form-data goes by; the bytes themselves are the proxy's to pass on.

    A form may bring its model after its file, so `model` may stay None until nearly all of it was fed. Both methods
    raise ApiError.
    """

    def __init__(self, content_type: bytes) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise errors.bad_request("The request's body must be multipart/form-data")
        boundary = options.get(b"boundary")
        if not boundary:
            raise errors.bad_request("The Content-Type of a form must name its boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_begin": self._begin_header,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise _bad_form() from None
        self.model: str | None = None
        self.model_span: tuple[int, int] | None = None  # where its value stands, in all that was fed: [start, end)
        self.streamed = False  # whether a field `stream` that stood before the model said so
        self._fed = 0
        self._chunk = b""
        self._ended = False
        self._begin_part()

    @property
    def token_estimate(self) -> int:
        """How much is said in a recording is not known before the engine has heard it."""
        return _DEFAULT_OUTPUT

    def feed(self, chunk: bytes) -> None:
        self._chunk = chunk
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _bad_form() from None
        self._fed += len(chunk)
        self._chunk = b""

    def finish(self) -> None:
        """All was fed."""
        if not self._ended:
            raise _bad_form()
        if self.model is None:
            _model(None)

    def _begin_part(self) -> None:
        self._field: bytes | None = None  # its name, of the fields that are read
        self._value = b""
        self._start = 0

    def _begin_header(self) -> None:
        self._header_name = self._header_value = b""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() != b"content-disposition":
            return
        _, options = parse_options_header(self._header_value)
        name = options.get(b"name")
        self._field = name if name in (b"model", b"stream") and b"filename" not in options else None

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            return
        # What a chunk's end held back because it could have been a boundary comes later, out of a buffer of the
        # parser's own. A value is in one piece, so any of its bytes that come out of the chunk tell where it starts.
        if data is self._chunk:
            self._start = self._fed + start - len(self._value)
        self._value += data[start:end]
        if len(self._value) > (_LONGEST_MODEL_ID * 4 if self._field == b"model" else _LONGEST_FIELD):
            raise errors.bad_request(
                f"The form's field '{self._field.decode()}' is too long", param=self._field.decode()
            )

    def _end_part(self) -> None:
        if self._field == b"stream":
            self.streamed = _is_true(self._value.decode("latin-1"))
        elif self._field == b"model":
            self._take_model()

    def _take_model(self) -> None:
        if self.model is not None:
            # The engine would take the last, and the first is the one that was checked and routed.
            raise errors.bad_request("The form has more than one 'model'", param="model")
        try:
            self.model = _model(self._value.decode())
        except UnicodeDecodeError:
            raise errors.bad_request("The form's field 'model' is not UTF-8", param="model") from None
        self.model_span = (self._start, self._start + len(self._value))

    def _end(self) -> None:
        self._ended = True


def _bad_form() -> errors.ApiError:
    return errors.bad_request("The request's body is not a valid form")
