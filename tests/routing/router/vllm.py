"""An engine that answers as vLLM does: the shapes are those of its `protocol.py` and `serving.py` modules."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from typing import Any

from tests.routing.router.engine import Behaviour, Engine, Request, answer, stream_bytes

PIECES = ("Hel", "lo")  # what the model says, as it comes
TEXT = "".join(PIECES)
PROMPT_TOKENS, COMPLETION_TOKENS, CACHED_TOKENS = 11, 2, 8
VECTOR = (0.5, 0.25, -1.0)

USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
}
RESPONSE_USAGE = {
    "input_tokens": PROMPT_TOKENS,
    "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
    "output_tokens": COMPLETION_TOKENS,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}


async def serve(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
    """The behaviour of an engine that serves every path."""
    return await _ROUTES[request.path](request)(engine, request, writer)


async def break_off(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
    """It dies after the first piece of a stream."""
    return await _ROUTES[request.path](request, then="die")(engine, request, writer)


def _chat(request: Request, *, then: str = "end") -> Behaviour:
    asked = json.loads(request.body)
    if not asked.get("stream"):
        message: dict[str, Any] = {
            "role": "assistant",
            "content": TEXT,
            "refusal": None,
            "tool_calls": [],
            "reasoning": None,
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
        return answer(_base(asked, "chat.completion") | {"choices": [choice], "usage": USAGE, "prompt_logprobs": None})

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _base(asked, "chat.completion.chunk") | {"choices": [choice]}

    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": piece}) for piece in PIECES]
    chunks += [chunk({"content": ""}, "stop"), *_usage_if_asked(asked, "chat.completion.chunk")]
    return _done_stream(chunks, then=then)


def _completions(request: Request, *, then: str = "end") -> Behaviour:
    asked = json.loads(request.body)

    def choice(text: str, reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}

    base = _base(asked, "text_completion")
    if not asked.get("stream"):
        return answer(base | {"choices": [choice(TEXT, "stop")], "usage": USAGE})
    chunks = [base | {"choices": [choice(piece, None)]} for piece in PIECES]
    chunks += [base | {"choices": [choice("", "stop")]}, *_usage_if_asked(asked, "text_completion")]
    return _done_stream(chunks, then=then)


def _embeddings(request: Request, *, then: str = "end") -> Behaviour:
    asked = json.loads(request.body)
    packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    embedding = packed if asked.get("encoding_format") == "base64" else list(VECTOR)
    usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS, "completion_tokens": 0}
    data = [{"index": 0, "object": "embedding", "embedding": embedding}]
    return answer(_base(asked, "list") | {"data": data, "usage": usage})


def _rerank(request: Request, *, then: str = "end") -> Behaviour:
    asked = json.loads(request.body)
    results = [
        {"index": index, "document": {"text": text, "multi_modal": None}, "relevance_score": 1 / (1 + index)}
        for index, text in enumerate(asked["documents"])
    ]
    return answer({"id": "rerank-1", "model": asked["model"], "usage": {"total_tokens": 11}, "results": results})


def _score(request: Request, *, then: str = "end") -> Behaviour:
    asked = json.loads(request.body)
    return answer(_base(asked, "list") | {"data": [{"index": 0, "object": "score", "score": 0.5}], "usage": USAGE})


def _tokenize(request: Request, *, then: str = "end") -> Behaviour:
    return answer({"count": 3, "max_model_len": 4096, "tokens": [1, 2, 3], "token_strs": None})


def _responses(request: Request, *, then: str = "end") -> Behaviour:
    asked = json.loads(request.body)
    part: dict[str, Any] = {"annotations": [], "text": TEXT, "type": "output_text", "logprobs": None}
    item = {"id": "msg_1", "content": [part], "role": "assistant", "status": "completed", "type": "message"}
    begun = {
        "id": "resp_1",
        "created_at": 1,
        "incomplete_details": None,
        "instructions": None,
        "metadata": None,
        "model": asked["model"],
        "object": "response",
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "status": "in_progress",
        "usage": None,
    }
    completed = begun | {"output": [item], "status": "completed", "usage": RESPONSE_USAGE}
    if not asked.get("stream"):
        return answer(completed)
    place: dict[str, Any] = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"content": [], "status": "in_progress"},
        },
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in PIECES),
        {"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": completed},
    ]
    return _named_stream([event | {"sequence_number": n} for n, event in enumerate(events)], then=then, die_after=5)


def _messages(request: Request, *, then: str = "end") -> Behaviour:
    asked = json.loads(request.body)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "stop_sequence": None}
    usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS}
    if not asked.get("stream"):
        content = [{"type": "text", "text": TEXT}]
        return answer(message | {"content": content, "stop_reason": "end_turn", "usage": usage})
    start = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 0}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return _named_stream(events, then=then, die_after=3)


def _transcriptions(request: Request, *, then: str = "end") -> Behaviour:
    form = fields(request)
    if form.get("stream") != b"true":
        return answer({"text": TEXT, "usage": {"type": "duration", "seconds": 3}})
    base = _base({"model": form["model"].decode()}, "transcription.chunk")
    chunks = [base | {"choices": [{"delta": {"content": piece}, "finish_reason": None}]} for piece in PIECES]
    return _done_stream([*chunks, base | {"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}], then=then)


_ROUTES: dict[str, Callable[..., Behaviour]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completions,
    "/v1/embeddings": _embeddings,
    "/v1/rerank": _rerank,
    "/v1/score": _score,
    "/tokenize": _tokenize,
    "/v1/responses": _responses,
    "/v1/messages": _messages,
    "/v1/audio/transcriptions": _transcriptions,
}


def fields(request: Request) -> dict[str, bytes]:
    """Of a form: value by name."""
    boundary = (request.header("content-type") or "").partition("boundary=")[2].strip('"').encode()
    found = {}
    for part in request.body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        found[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value.removesuffix(b"\r\n")
    return found


def _base(asked: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "id-1", "object": kind, "created": 1, "model": asked["model"]}


def _usage_if_asked(asked: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    options = asked.get("stream_options")
    if not options or not options.get("include_usage", True):
        return []
    return [_base(asked, kind) | {"choices": [], "usage": USAGE}]


def _done_stream(chunks: list[dict[str, Any]], *, then: str) -> Behaviour:
    """As OpenAI's older operations have it."""
    events = [f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode() for chunk in chunks]
    return stream_bytes(*events[:2], then=then) if then == "die" else stream_bytes(*events, b"data: [DONE]\n\n")


def _named_stream(events: list[dict[str, Any]], *, then: str, die_after: int) -> Behaviour:
    """As Responses and Anthropic's messages have it."""
    written = [
        f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode() for event in events
    ]
    return stream_bytes(*written[:die_after], then=then) if then == "die" else stream_bytes(*written)
