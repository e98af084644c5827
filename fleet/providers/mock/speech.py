"""What the simulated engine says: deterministic text, cut into tokens, and deterministic vectors."""

from __future__ import annotations

import base64
import itertools
import math
import random
import re
import struct
from collections.abc import Iterator, Sequence

DIMENSIONS = 256
_TOKEN = re.compile(r"\s*\S+")
_LONGEST_ECHO = 300  # characters
_FILLER = (
    " And so it goes on, word after word, at the pace that it was told to keep, because more tokens were asked for"
    " than there is to say."
)


def tokens(text: str) -> list[str]:
    """A token is a word with the white space before it. Joined, they are the text (less the space at its end)."""
    return _TOKEN.findall(text)


def answer(model: str, question: str) -> str:
    echo = " ".join(question.split())
    if len(echo) > _LONGEST_ECHO:
        echo = echo[:_LONGEST_ECHO].rsplit(" ", 1)[0] + " ..."
    asked = f' You said: "{echo}"' if echo else " You said nothing."
    return (
        f"Hello! I am a simulated engine playing {model}: no GPU was harmed for this answer.{asked}"
        " A real one would now think about it; I only show that your request found its way to a worker,"
        " and that each token finds its way back."
    )


def speak(text: str, *, at_least: int) -> Iterator[str]:
    """The tokens of the text, and filler after them until there are `at_least` so many."""
    said = tokens(text)
    yield from said
    yield from itertools.islice(itertools.cycle(tokens(_FILLER)), max(0, at_least - len(said)))


def embed(text: str, *, dimensions: int = DIMENSIONS) -> list[float]:
    """A unit vector, the direction of the sum of one random vector per word: texts that share words are near."""
    total = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        draw = random.Random(word)  # noqa: S311 - no secret
        for index in range(dimensions):
            total[index] += draw.gauss(0, 1)
    length = math.sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


def packed(vector: Sequence[float]) -> str:
    """OpenAI's encoding_format=base64: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
