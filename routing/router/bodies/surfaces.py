"""What is proxied: one row for each path of the API, with what the router has to know of its requests and answers.

The paths are those of vLLM's server (its `api_router` modules). Of /rerank and /score it has an alias under /v1, which
its key guards and which is used; of /tokenize it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Surface:
    operation: str  # its name in usage, metrics and logs
    path: str  # as the client asks for it
    engine_path: bytes  # as the engine serves it
    form: bool = False  # the request is multipart/form-data; else a JSON object
    generates: bool = False  # the answer is text that the model writes, so that it costs tokens of output
    streams: bool = False  # on demand the answer comes as server-sent events
    anthropic: bool = False  # its clients understand errors in Anthropic's words only; else in OpenAI's
    usage_on_demand: bool = False  # a stream has its usage only if `stream_options.include_usage` asks for it
    # Where the usage stands in an answer, and in an event of a stream: under "usage", of the object itself ("") or of
    # the object under this key. Several, if the kinds of event differ. () = the engine counts no tokens.
    usage_of: tuple[str, ...] = ("",)
    # What stands once in each event that brings a piece of the answer. Between quotation marks it can't be part of the
    # text itself, where JSON writes them as \".
    content_mark: bytes = b'"choices"'


_SURFACES = (
    Surface(
        "chat", "/v1/chat/completions", b"/v1/chat/completions", generates=True, streams=True, usage_on_demand=True
    ),
    Surface("completions", "/v1/completions", b"/v1/completions", generates=True, streams=True, usage_on_demand=True),
    Surface(
        "responses",
        "/v1/responses",
        b"/v1/responses",
        generates=True,
        streams=True,
        usage_of=("", "response"),
        content_mark=b'"delta"',
    ),
    Surface(
        "messages",
        "/v1/messages",
        b"/v1/messages",
        generates=True,
        streams=True,
        anthropic=True,
        usage_of=("", "message"),
        content_mark=b'"content_block_delta"',
    ),
    Surface("embeddings", "/v1/embeddings", b"/v1/embeddings"),
    Surface("rerank", "/v1/rerank", b"/v1/rerank"),
    Surface("score", "/v1/score", b"/v1/score"),
    Surface("tokenize", "/v1/tokenize", b"/tokenize", usage_of=()),
    Surface(
        "transcriptions",
        "/v1/audio/transcriptions",
        b"/v1/audio/transcriptions",
        form=True,
        generates=True,
        streams=True,
    ),
)

BY_PATH: Mapping[str, Surface] = MappingProxyType({surface.path: surface for surface in _SURFACES})
