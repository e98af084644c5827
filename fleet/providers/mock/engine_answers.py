"""The shapes of the simulated engine's answers, as vLLM gives them: chats and completions, whole or in parts."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

from fleet.providers.mock.engine_requests import Generation


class Shape(ABC):
    """One answer: its parts while it is streamed, or the whole of it."""

    prefix, one, part = "", "", ""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def opening(self, index: int) -> dict[str, Any] | None:
        """What comes before a choice's first token, if anything does."""
        return None

    def piece(self, index: int, token: str) -> dict[str, Any]:
        return self._part([{"index": index, **self._said(token), "logprobs": None, "finish_reason": None}])

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        return self._part([{"index": index, **self._said(""), "logprobs": None, "finish_reason": reason}])

    def usage(self, generation: Generation) -> dict[str, Any]:
        return self._part([]) | {"usage": generation.usage}

    def whole(self, generation: Generation) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                **self._text("".join(choice.tokens)),
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(generation.choices)
        ]
        return {**self._head, "object": self.one, "choices": choices, "usage": generation.usage}

    def _part(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": self.part, "choices": choices}

    @abstractmethod
    def _said(self, token: str) -> dict[str, Any]: ...

    @abstractmethod
    def _text(self, text: str) -> dict[str, Any]: ...


class Chat(Shape):
    prefix, one, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self, index: int) -> dict[str, Any] | None:
        delta = {"role": "assistant", "content": ""}
        return self._part([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

    def _said(self, token: str) -> dict[str, Any]:
        return {"delta": {"content": token}}

    def _text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}


class Completion(Shape):
    prefix, one, part = "cmpl", "text_completion", "text_completion"

    def _said(self, token: str) -> dict[str, Any]:
        return {"text": token}

    def _text(self, text: str) -> dict[str, Any]:
        return {"text": text}
