"""What is read of an answer's usage, and what of it the client is not to see."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.router.bodies.metering import Tap, tap_for
from routing.router.bodies.surfaces import BY_PATH, Surface
from routing.router.passage import Tokens

CHAT = BY_PATH["/v1/chat/completions"]
COMPLETIONS = BY_PATH["/v1/completions"]
RESPONSES = BY_PATH["/v1/responses"]
MESSAGES = BY_PATH["/v1/messages"]
EMBEDDINGS = BY_PATH["/v1/embeddings"]
RERANK = BY_PATH["/v1/rerank"]
TOKENIZE = BY_PATH["/v1/tokenize"]
TRANSCRIPTIONS = BY_PATH["/v1/audio/transcriptions"]

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}
COUNTED = Tokens(input=7, output=5, cached=4)


def event(data: object, *, end: str = "\n") -> bytes:
    return f"data: {json.dumps(data)}{end}{end}".encode()


def content(text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


USAGE_ALONE = {"id": "c", "choices": [], "usage": USAGE}
DONE = b"data: [DONE]\n\n"


def run(tap: Tap, *chunks: bytes) -> bytes:
    return b"".join([*(tap.feed(chunk) for chunk in chunks), tap.finish()])


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    edges = sorted({0, *(each % (len(data) + 1) for each in at), len(data)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


# --- streams ---


def test_a_stream_gives_its_usage_and_comes_through_as_it_is() -> None:
    chunks = [event(content("Hel")), event(content("lo")), event(USAGE_ALONE) + DONE]
    tap = tap_for(CHAT, streamed=True, hide_usage=False)

    assert all(tap.feed(chunk) is chunk for chunk in chunks)
    assert (tap.finish(), tap.tokens) == (b"", COUNTED)


def test_usage_that_the_client_did_not_ask_for_is_hidden() -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=True)

    seen = run(tap, event(content("Hel")) + event(content("lo")), event(USAGE_ALONE), DONE)

    assert seen == event(content("Hel")) + event(content("lo")) + DONE
    assert tap.tokens == COUNTED


def test_a_blank_line_in_front_of_hidden_usage_is_not_hidden() -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=True)

    assert run(tap, b"\r\n" + event(USAGE_ALONE) + DONE) == b"\r\n" + DONE


def test_nothing_is_sent_for_a_chunk_that_is_all_usage() -> None:
    assert tap_for(CHAT, streamed=True, hide_usage=True).feed(event(USAGE_ALONE)) == b""


@pytest.mark.parametrize(
    "shown",
    [
        content(usage=USAGE),
        {"choices": [], "prompt_filter_results": []},
        {"choices": [], "usage": None},
        {"usage": USAGE},
        {"error": {"message": "x"}, "usage": USAGE},
        content('he said "usage": {} "choices": []'),
        {"choices": [], "token": "usage"},
        ["usage"],
    ],
)
def test_nothing_else_is_ever_hidden(shown: object) -> None:
    data = event(shown)

    assert tap_for(CHAT, streamed=True, hide_usage=True).feed(data) is data


def test_an_event_that_is_cut_is_held_until_it_is_whole() -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=True)
    first, second = event(content("Hel")), event(content("lo"))

    assert tap.feed(first + second[:9]) == first
    assert tap.at_event_end
    assert tap.feed(second[9:-1]) == b""
    assert tap.feed(second[-1:]) == second


def test_where_nothing_is_hidden_nothing_is_held() -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=False)
    data = event(USAGE_ALONE)

    assert (tap.feed(data[:20]), tap.at_event_end, tap.tokens) == (data[:20], False, None)
    assert (tap.feed(data[20:]), tap.at_event_end, tap.tokens) == (data[20:], True, COUNTED)


@pytest.mark.parametrize("hide_usage", [True, False])
def test_an_event_too_long_to_be_held_goes_through(hide_usage: bool) -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=hide_usage)
    long = event(content("x" * 3_000_000))

    sent = b"".join(tap.feed(long[at : at + 65_536]) for at in range(0, len(long) - 65_536, 65_536))
    assert len(long) - len(sent) < 1_200_000
    assert not tap.at_event_end
    rest = tap.feed(long[(len(long) // 65_536) * 65_536 :])
    rest += tap.feed(event(USAGE_ALONE))

    assert sent + rest == long + (b"" if hide_usage else event(USAGE_ALONE))
    assert tap.at_event_end
    assert tap.tokens == COUNTED


@pytest.mark.parametrize(
    "usage",
    [
        b"data:%b\n\n",
        b"data: %b\r\n\r\n",
        b"data: %b\r\r",
        b"event: x\nid: 1\ndata: %b\n\n",
        b": a comment\ndata: %b\n\n",
    ],
)
def test_every_way_to_write_an_event_is_understood(usage: bytes) -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=True)
    data = usage % json.dumps(USAGE_ALONE).encode()

    assert (run(tap, data, DONE), tap.tokens) == (DONE, COUNTED)


def test_an_event_of_several_lines_is_understood() -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=True)
    lines = json.dumps(USAGE_ALONE, indent=2).splitlines()

    assert run(tap, "".join(f"data: {line}\n" for line in lines).encode() + b"\n", DONE) == DONE
    assert tap.tokens == COUNTED


@pytest.mark.parametrize("hide_usage", [True, False])
def test_a_usage_of_null_in_every_event_is_none(hide_usage: bool) -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=hide_usage)
    data = event(content(usage=None))

    assert (tap.feed(data) is data, tap.tokens, tap.events) == (True, None, 1)


def test_of_usage_told_again_and_again_the_last_counts() -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=False)

    run(tap, *(event(content(usage=USAGE | {"completion_tokens": n})) for n in range(1, 10)))

    assert tap.tokens == Tokens(input=7, output=9, cached=4)


def test_a_stream_that_ends_without_a_blank_line_is_read_to_its_end() -> None:
    for hide_usage, seen in ((True, b""), (False, event(USAGE_ALONE)[:-1])):
        tap = tap_for(CHAT, streamed=True, hide_usage=hide_usage)

        assert (run(tap, event(USAGE_ALONE)[:-1]), tap.tokens) == (seen, COUNTED)


def test_responses_tell_their_usage_in_the_last_event() -> None:
    usage = {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}, "total_tokens": 12}
    tap = tap_for(RESPONSES, streamed=True, hide_usage=False)

    run(
        tap,
        event({"type": "response.created", "response": {"id": "r", "usage": None}}),
        event({"type": "response.output_text.delta", "delta": "Hel"}),
        event({"type": "response.output_text.delta", "delta": "lo"}),
        event({"type": "response.output_text.done", "text": "Hello"}),
        event({"type": "response.completed", "response": {"id": "r", "usage": usage}}),
    )

    assert (tap.tokens, tap.events) == (COUNTED, 2)


def test_messages_tell_the_input_first_and_the_output_last() -> None:
    start = {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": None, "output_tokens": 0}
    tap = tap_for(MESSAGES, streamed=True, hide_usage=False)

    run(
        tap,
        b"event: message_start\n" + event({"type": "message_start", "message": {"id": "m", "usage": start}}),
        b"event: content_block_delta\n" + event({"type": "content_block_delta", "delta": {"text": "Hi"}}),
        b"event: message_delta\n" + event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}),
        b"event: message_stop\n" + event({"type": "message_stop"}),
    )

    assert (tap.tokens, tap.events) == (COUNTED, 1)


# --- however the network cuts ---

LINE_ENDS = ("\n", "\r\n")
texts = st.sampled_from(["", "Hi", "data: x\n\n", "é" * 5, '"usage":{"prompt_tokens":1}', "usage", "choices", "\r\r"])
events_shown = st.one_of(
    st.builds(lambda text, end: event(content(text), end=end), texts, st.sampled_from(LINE_ENDS)),
    st.builds(lambda text: event(content(text, usage=None)), texts),
    st.sampled_from(
        [
            DONE,
            b": ping\n\n",
            b"event: x\ndata:\n\n",
            b"\n",
            b"\r\n",
            b'data: {"error":\ndata: {"message": "usage"}}\n\n',
            b"nonsense\n\n",
            b"data: {\n\n",
            event([1, "usage"]),
            event({"choices": []}),
        ]
    ),
)
# The second of each pair: whether the client is to see it.
streams = st.lists(
    st.tuples(events_shown, st.just(True))
    | st.tuples(st.sampled_from([event(USAGE_ALONE, end=end) for end in LINE_ENDS]), st.just(False)),
    max_size=12,
)
cuts = st.lists(st.integers(0, 5000), max_size=20)


@given(stream=streams, at=cuts)
def test_the_client_sees_what_he_would_see_had_the_engine_not_been_asked(
    stream: list[tuple[bytes, bool]], at: list[int]
) -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=True)

    seen = run(tap, *cut(b"".join(data for data, _ in stream), at))

    assert seen == b"".join(data for data, shown in stream if shown)
    assert tap.tokens == (COUNTED if any(not shown for _, shown in stream) else None)


soup = st.lists(
    st.sampled_from([b"\n", b"\r", b"data:", b" ", json.dumps(USAGE_ALONE).encode(), b'"usage"', b"x", b"{", b"\xff"]),
    max_size=30,
).map(b"".join)


@given(data=soup | st.binary(max_size=50), at=cuts, hide_usage=st.booleans())
def test_however_any_bytes_are_cut_the_outcome_is_one(data: bytes, at: list[int], hide_usage: bool) -> None:
    whole, pieces = (tap_for(CHAT, streamed=True, hide_usage=hide_usage) for _ in range(2))

    seen = run(whole, data)

    assert run(pieces, *cut(data, at)) == seen
    assert (pieces.tokens, pieces.events) == (whole.tokens, whole.events)
    assert hide_usage or seen == data


@given(stream=streams, at=cuts)
def test_what_is_given_out_ends_an_event_when_it_says_so(stream: list[tuple[bytes, bool]], at: list[int]) -> None:
    tap = tap_for(CHAT, streamed=True, hide_usage=True)
    given_out = b""

    for chunk in cut(b"".join(data for data, _ in stream), at):
        given_out += tap.feed(chunk)
        assert tap.at_event_end
        assert given_out in {b""} or given_out.endswith((b"\n\n", b"\n\r\n", b"\n", b"\r\r"))


# --- answers in one piece ---


def tokens_of(surface: Surface, answer: object, *, size: int = 100) -> Tokens | None:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    tap = tap_for(surface, streamed=False, hide_usage=False)
    for start in range(0, len(data), size):
        chunk = data[start : start + size]
        assert tap.feed(chunk) is chunk
    assert tap.finish() == b""
    return tap.tokens


@pytest.mark.parametrize(
    ("surface", "usage", "tokens"),
    [
        (CHAT, USAGE, COUNTED),
        (CHAT, {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": None}, Tokens(7, 5, 0)),
        (COMPLETIONS, {"prompt_tokens": 7, "completion_tokens": None, "total_tokens": 7}, Tokens(7, 0, 0)),
        (EMBEDDINGS, {"prompt_tokens": 7, "total_tokens": 7}, Tokens(7, 0, 0)),
        (RERANK, {"total_tokens": 7}, Tokens(7, 0, 0)),
        (RESPONSES, {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}, COUNTED),
        (MESSAGES, {"input_tokens": 3, "output_tokens": 5, "cache_read_input_tokens": 4}, COUNTED),
        (TRANSCRIPTIONS, {"type": "duration", "seconds": 3}, None),
        (TOKENIZE, USAGE, None),
        (CHAT, None, None),
        (CHAT, [], None),
        (CHAT, {}, None),
        (CHAT, {"prompt_tokens": "7", "completion_tokens": -1, "total_tokens": 1e3}, None),
        (CHAT, {"prompt_tokens": True, "completion_tokens": 10**400}, None),
        (CHAT, {"prompt_tokens": 7, "prompt_tokens_details": "none"}, Tokens(7, 0, 0)),
    ],
)
def test_an_answer_tells_its_usage(surface: Surface, usage: object, tokens: Tokens | None) -> None:
    assert tokens_of(surface, {"id": "c", "usage": usage, "choices": []}) == tokens


def test_usage_inside_a_tools_arguments_is_none_of_the_answers() -> None:
    arguments = {"usage": {"input_tokens": 999}, "x": "usage"}
    answer = {"usage": {"input_tokens": 7, "output_tokens": 5}, "content": [{"type": "tool_use", "input": arguments}]}

    assert tokens_of(MESSAGES, answer) == Tokens(7, 5, 0)


@pytest.mark.parametrize("size", [1000, 4096, 65_536, 10_000_000])
@pytest.mark.parametrize("end", [{}, {"prompt_logprobs": ["usage", {"usage": {}}] * 10_000}])
def test_of_a_large_answer_the_usage_is_found_wherever_it_stands(size: int, end: dict[str, Any]) -> None:
    numbers = [[0.1234567] * 1000] * 20

    assert tokens_of(EMBEDDINGS, {"data": numbers, "usage": USAGE, **end}, size=size) == COUNTED
    assert tokens_of(RERANK, {"usage": {"total_tokens": 9}, "results": numbers, **end}, size=size) == Tokens(9, 0, 0)


@given(size=st.integers(65_400, 67_000), chunk=st.integers(10, 200) | st.integers(200, 70_000))
def test_around_the_size_where_parsing_ends_nothing_is_missed(size: int, chunk: int) -> None:
    answer = json.dumps({"x": "", "usage": USAGE}).encode()
    answer = answer.replace(b'""', b'"%b"' % (b"x" * (size - len(answer))))

    assert tokens_of(CHAT, answer, size=chunk) == COUNTED


@given(data=soup | st.binary(max_size=200), size=st.integers(1, 50))
def test_rubbish_tells_nothing_and_goes_through(data: bytes, size: int) -> None:
    tokens_of(CHAT, data, size=size)


@pytest.mark.parametrize(
    "rubbish", [b"[" * 60_000, b'{"usage":' * 6000, b'{"usage": {"a":' + b"[" * 3000, b'"usage": {' * 9000]
)
def test_deeply_nested_rubbish_tells_nothing(rubbish: bytes) -> None:
    assert tokens_of(CHAT, rubbish, size=1000) is None
    tap = tap_for(CHAT, streamed=True, hide_usage=True)
    assert (run(tap, b"data: " + rubbish + b"\n\n"), tap.tokens) == (b"data: " + rubbish + b"\n\n", None)
