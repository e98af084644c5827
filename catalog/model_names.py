"""By which names models are asked for: ids and aliases, of which each means one model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import connection, models

if TYPE_CHECKING:
    from catalog.models import LlmModel

_LOCK = 0x6D6F64656C  # Postgres' advisory lock of this one: "model"


def check(model: LlmModel) -> None:
    """Raises ValidationError, by field, if a name of the model is another's, or a fallback can't be one.

    What was checked stays true until the end of the caller's transaction: another one that checks waits for that.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    faults = {"model_id": _of_the_id(model), "aliases": _of_aliases(model), "fallbacks": _of_fallbacks(model)}
    if found := {field: words for field, words in ((name, list(each)) for name, each in faults.items()) if words}:
        raise ValidationError(found)


def _of_the_id(model: LlmModel) -> Iterator[str]:
    if other := _others(model).filter(aliases__contains=[model.model_id]).first():
        yield f'"{model.model_id}" is an alias of {other.model_id}.'


def _of_aliases(model: LlmModel) -> Iterator[str]:
    yield from _doubled(model.aliases)
    if model.model_id in model.aliases:
        yield f'"{model.model_id}" is the model\'s own id, by which it is known anyway.'
    taken = models.Q(model_id__in=model.aliases) | models.Q(aliases__overlap=model.aliases)
    for other in _others(model).filter(taken).order_by("model_id"):
        for name in sorted({other.model_id, *other.aliases} & set(model.aliases)):
            what = "the id" if name == other.model_id else "an alias"
            yield f'"{name}" is {what} of {other.model_id} already.'


def _of_fallbacks(model: LlmModel) -> Iterator[str]:
    yield from _doubled(model.fallbacks)
    if model.model_id in model.fallbacks:
        yield "A model can't be its own fallback."
    known = {model.model_id, *_others(model).filter(model_id__in=model.fallbacks).values_list("model_id", flat=True)}
    for name in sorted(set(model.fallbacks) - known):
        yield f'There is no model with the id "{name}".'


def _others(model: LlmModel) -> models.QuerySet[LlmModel]:
    return type(model).objects.exclude(pk=model.pk)


def _doubled(names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f'"{name}" stands there {count} times.'
