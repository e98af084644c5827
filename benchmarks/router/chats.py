"""The requests that are sent: byte for byte the same to every router, but for its port and its key."""

from __future__ import annotations

import json

MODEL = "bench/model"
_SIZE = 1024  # of the body, bytes


def chat(port: int, key: str) -> bytes:
    """A chat of 1 KB, to be answered in one piece."""
    return _post(port, key, _padded({"model": MODEL, "max_tokens": 200, "temperature": 0.7}))


def stream(port: int, key: str, *, events: int) -> bytes:
    """The same, to be answered with so many events. It asks for usage, as most clients that count do."""
    options = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": events}
    return _post(port, key, _padded(options))


def _padded(options: dict[str, object]) -> bytes:
    system = {"role": "system", "content": "You are a helpful assistant."}
    bare = json.dumps({**options, "messages": [system, {"role": "user", "content": ""}]})
    words = ("What does a token cost when nobody waits for it? " * 30)[: _SIZE - len(bare)]
    return json.dumps({**options, "messages": [system, {"role": "user", "content": words}]}).encode()


def _post(port: int, key: str, body: bytes) -> bytes:
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 3.0.0",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
