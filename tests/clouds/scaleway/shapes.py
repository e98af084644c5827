"""Whether JSON has the shape of samples: the same keys, the same kinds of values, all the way down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def differences(value: Any, samples: Iterable[Any], path: str = "$") -> list[str]:
    """What is unlike every sample. A null is like anything, and anything is like what was only ever seen as null."""
    seen = [sample for sample in samples if sample is not None]
    if value is None or not seen:
        return []
    alike = [sample for sample in seen if _kind(sample) == _kind(value)]
    if not alike:
        return [f"{path} is {_kind(value)}, recorded: {sorted({_kind(sample) for sample in seen})}"]
    if isinstance(value, dict):
        return _of_objects(value, alike, path)
    if isinstance(value, list):
        elements = [element for sample in alike for element in sample]
        return [line for number, one in enumerate(value) for line in differences(one, elements, f"{path}[{number}]")]
    return []


def _of_objects(value: dict[str, Any], samples: Sequence[dict[str, Any]], path: str) -> list[str]:
    if all(key.isdigit() for one in (value, *samples) for key in one):
        # Keys that are numbers are places, not names.
        entries = [entry for sample in samples for entry in sample.values()]
        return [line for key, one in value.items() for line in differences(one, entries, f"{path}.{key}")]
    alike = [sample for sample in samples if sample.keys() == value.keys()]
    if not alike:
        return [f"{path} has other keys than recorded: {_nearest(value, samples)}"]
    return [
        line
        for key, one in value.items()
        for line in differences(one, [sample[key] for sample in alike], f"{path}.{key}")
    ]


def _nearest(value: dict[str, Any], samples: Sequence[dict[str, Any]]) -> list[str]:
    return min((sorted(value.keys() ^ sample.keys()) for sample in samples), key=len)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "an array", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), "null")
