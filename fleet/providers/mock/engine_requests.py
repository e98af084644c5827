"""What a client may ask of the simulated engine: its JSON read into values, or refused as vLLM refuses it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.providers.mock import speech

_COMPLETION_TOKENS = 16  # what OpenAI and vLLM do when a completion names no max_tokens


class Refusal(Exception):
    """An error answer in the shape of vLLM's."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": param, "code": status}


def bad_request(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, "BadRequestError", message, param)


@dataclass(frozen=True, slots=True)
class Choice:
    tokens: Sequence[str]  # all that will be said
    finish_reason: str  # "stop" | "length"


@dataclass(frozen=True, slots=True)
class Generation:
    """A chat or a completion: what will be said, one choice per prompt, and how."""

    choices: tuple[Choice, ...]
    prompt_tokens: int
    stream: bool
    include_usage: bool

    @property
    def completion_tokens(self) -> int:
        return sum(len(choice.tokens) for choice in self.choices)

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True, slots=True)
class Embedding:
    texts: tuple[str, ...]
    dimensions: int
    base64: bool

    @property
    def prompt_tokens(self) -> int:
        return sum(len(speech.tokens(text)) for text in self.texts)


def parse(raw: bytes, *, model: str) -> dict[str, Any]:
    """The request's JSON object, if it is for this model."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise bad_request(f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object")
    wanted = body.get("model") or model
    if wanted != model:
        raise Refusal(404, "NotFoundError", f"The model `{wanted}` does not exist.", "model")
    return body


def chat(body: Mapping[str, Any], *, model: str, max_model_len: int) -> Generation:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a list with at least one message", "messages")
    texts = [_message_text(message) for message in messages]
    asked = [text for message, text in zip(messages, texts, strict=True) if message["role"] == "user"]
    limit = _whole(body, "max_completion_tokens") or _whole(body, "max_tokens")
    said = speech.answer(model, asked[-1] if asked else texts[-1])
    return _generation(body, [(" ".join(texts), said)], limit=limit, max_model_len=max_model_len)


def completion(body: Mapping[str, Any], *, model: str, max_model_len: int) -> Generation:
    prompts = _texts(body.get("prompt"), "prompt")
    limit = _whole(body, "max_tokens") or _COMPLETION_TOKENS
    pairs = [(prompt, speech.answer(model, prompt)) for prompt in prompts]
    return _generation(body, pairs, limit=limit, max_model_len=max_model_len)


def embedding(body: Mapping[str, Any]) -> Embedding:
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise bad_request("encoding_format must be float or base64", "encoding_format")
    dimensions = _whole(body, "dimensions") or speech.DIMENSIONS
    if dimensions > 4096:
        raise bad_request("dimensions must be at most 4096", "dimensions")
    return Embedding(texts=_texts(body.get("input"), "input"), dimensions=dimensions, base64=encoding == "base64")


def _generation(
    body: Mapping[str, Any], pairs: Sequence[tuple[str, str]], *, limit: int | None, max_model_len: int
) -> Generation:
    if body.get("n") not in (None, 1):
        raise bad_request("the simulated engine gives one answer: n must be 1", "n")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request("stream_options must be an object", "stream_options")
    prompt_tokens = [len(speech.tokens(prompt)) for prompt, _ in pairs]
    room = max_model_len - max(prompt_tokens)
    if room < (limit or 1):
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested"
            f" {limit or 1} output tokens and your prompt contains {max(prompt_tokens)} input tokens."
        )
    at_most = limit or room
    at_least = at_most + 1 if body.get("ignore_eos") is True else _whole(body, "min_tokens") or 0
    return Generation(
        choices=tuple(_choice(text, at_least=at_least, at_most=at_most) for _, text in pairs),
        prompt_tokens=sum(prompt_tokens),
        stream=body.get("stream") is True,
        include_usage=bool((options or {}).get("include_usage")),
    )


def _choice(text: str, *, at_least: int, at_most: int) -> Choice:
    said = list(itertools.islice(speech.speak(text, at_least=at_least), at_most + 1))
    return Choice(tokens=said[:at_most], finish_reason="length" if len(said) > at_most else "stop")


def _message_text(message: object) -> str:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad_request("every message must be an object with a role", "messages")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return " ".join(str(part.get("text", "")) for part in content)
    raise bad_request("a message's content must be a string or a list of parts", "messages")


def _texts(value: object, param: str) -> tuple[str, ...]:
    """A string, a list of strings, a list of token ids or a list of such lists; token ids are words to us."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise bad_request(f"{param} must be a string or a list that is not empty", param)
    if all(isinstance(part, str) for part in value):
        return tuple(value)
    if all(isinstance(part, int) for part in value):
        return (" ".join(map(str, value)),)
    if all(isinstance(part, list) for part in value):
        return tuple(" ".join(map(str, part)) for part in value)
    raise bad_request(f"{param} must hold strings only, or token ids only", param)


def _whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise bad_request(f"{name} must be a whole number from 1 upwards", name)
    return value
