"""What a request has taken, in tokens and in money: by the engine's own count, or by an estimate where none came."""

from __future__ import annotations

from routing.discovery.records import ServedModel
from routing.router.call import Call
from routing.router.passage import Tokens

_MILLION = 1_000_000


def reckon(call: Call) -> None:
    """Write tokens and cost into the passage. An engine that began to answer and did not come to the end (the client
    left, the worker died) has done the prompt and an event's worth of output for each event: about a token each."""
    passage, tap = call.passage, call.tap
    if tap is None:
        return
    if tap.tokens is not None:
        passage.tokens = tap.tokens
    elif passage.status < 400 or passage.status == 499:
        passage.tokens = Tokens(input=call.question.prompt_estimate, output=tap.events)
        passage.estimated = True
    if passage.tokens is not None and call.model is not None:
        passage.cost_micros = _cost(passage.tokens, call.model)


def total(call: Call) -> int:
    tokens = call.passage.tokens
    return tokens.input + tokens.output if tokens is not None else 0


def _cost(tokens: Tokens, model: ServedModel) -> int:
    return round((tokens.input * model.input_price + tokens.output * model.output_price) / _MILLION)
