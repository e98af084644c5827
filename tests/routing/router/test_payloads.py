"""What is read out of a request's body, and what the engine gets of it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.router.bodies.payloads import Asked, FormReader, read_json
from routing.router.bodies.surfaces import BY_PATH, Surface
from routing.router.errors import ApiError

CHAT = BY_PATH["/v1/chat/completions"]
COMPLETIONS = BY_PATH["/v1/completions"]
RESPONSES = BY_PATH["/v1/responses"]
MESSAGES = BY_PATH["/v1/messages"]
EMBEDDINGS = BY_PATH["/v1/embeddings"]


def asked(surface: Surface = CHAT, **fields: Any) -> Asked:
    return read_json(json.dumps({"model": "m", **fields}).encode(), surface)


# --- what is refused ---


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        '{"model": "m"}'.encode("utf-16"),
        b'{"model": "\xed\xa0\x80"}',
        b'{"model": "m"} x',
        b'{"model": "m", "n": NaN}',
        b'{"model": "m", "n": -Infinity}',
        b'{"model": "m", "n": ' + b"9" * 5000 + b"}",
        b'{"model": "m", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "a\nb"}',
    ],
)
def test_what_is_not_json_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(ApiError, match="not valid JSON") as caught:
        read_json(body, CHAT)
    assert caught.value.status == 400


@pytest.mark.parametrize("body", [b"[]", b"null", b'"model"', b"1"])
def test_what_is_not_an_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(ApiError, match="JSON object") as caught:
        read_json(body, CHAT)
    assert caught.value.status == 400


@pytest.mark.parametrize("fields", ["", '"model": null', '"model": ""', '"model": ["a"]', '"model": 1'])
def test_a_model_that_is_no_name_is_a_bad_request(fields: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(f"{{{fields}}}".encode(), CHAT)
    assert (caught.value.status, caught.value.param) == (400, "model")


@pytest.mark.parametrize("model", ["x" * 513, "\ud800", "x" * 1_000_000])
def test_a_name_that_no_model_can_have_is_not_found(model: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(json.dumps({"model": model}).encode(), CHAT)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert len(caught.value.message) < 600


def test_a_body_nested_as_deeply_as_can_be_read_is_changed_or_refused() -> None:
    def at_depth(depth: int, act: Any) -> Any:
        return at_depth(depth - 1, act) if depth else act()

    statuses = set()
    for nesting in range(10, 1000, 10):
        body = b'{"model": "m", "messages": %b%b}' % (b"[" * nesting, b"]" * nesting)
        try:
            request = read_json(body, CHAT)
        except ApiError:
            break
        request.prefix()
        assert request.token_estimate
        try:
            at_depth(100, lambda request=request: request.body_for("other", ask_usage=True))
        except ApiError as error:
            statuses.add(error.status)
    assert statuses == {400}


# --- what is read ---


def test_of_a_model_that_stands_twice_the_last_is_taken() -> None:
    assert read_json(b'{"model": "a", "messages": [{"model": "b"}], "model": "c"}', CHAT).model == "c"


def test_a_byte_order_mark_and_leading_space_are_read_over() -> None:
    assert read_json(b'\xef\xbb\xbf \r\n\t{"model": "m"}', CHAT).model == "m"


@pytest.mark.parametrize(
    ("stream", "streamed"),
    [(True, True), (1, True), ("true", True), ("On", True), (False, False), (None, False), ("no", False), ([1], False)],
)
def test_a_stream_is_what_the_engine_takes_for_one(stream: object, streamed: bool) -> None:
    assert asked(stream=stream).streamed is streamed


def test_embeddings_are_never_streamed() -> None:
    assert not asked(EMBEDDINGS, stream=True).streamed


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"include_usage": True}, True),
        ({"include_usage": False}, False),
        ({"include_usage": None}, False),
        ({"include_usage": "yes"}, True),
        ({"continuous_usage_stats": True}, True),  # vLLM's default is true
        ({}, True),
        (None, False),
        ("nonsense", True),
        ([], True),
    ],
)
def test_the_client_wants_usage_if_he_did_not_leave_it_out(options: object, wanted: bool) -> None:
    assert asked(stream=True, stream_options=options).wants_usage is wanted


def test_usage_is_left_out_of_nothing_but_streams_that_have_it_on_demand() -> None:
    assert asked().wants_usage
    assert asked(RESPONSES, stream=True).wants_usage
    assert asked(MESSAGES, stream=True).wants_usage
    assert not asked(stream=True).wants_usage
    assert not asked(COMPLETIONS, stream=True).wants_usage


# --- the estimate ---


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_estimate_is_the_prompt_and_the_most_output(name: str) -> None:
    small = asked(CHAT, prompt="x" * 4000, **{name: 10}).token_estimate
    large = asked(CHAT, prompt="x" * 4000, **{name: 20_000}).token_estimate

    assert 1010 <= small <= 1050
    assert large - small in (19_990, 19_991)


def test_the_estimate_counts_every_choice() -> None:
    assert asked(max_tokens=100, n=5).token_estimate - asked(max_tokens=100, n=1).token_estimate == 400


@pytest.mark.parametrize("limit", [None, True, -5, "many", 1.5, {}, []])
def test_without_a_sound_limit_the_estimate_takes_a_default(limit: object) -> None:
    assert 1024 <= asked(max_tokens=limit).token_estimate <= 1050


def test_the_estimate_is_bounded_whatever_a_request_says() -> None:
    assert asked(max_tokens=10**30, n=10**30).token_estimate < 10**9


def test_what_generates_nothing_is_estimated_by_its_input_alone() -> None:
    assert asked(EMBEDDINGS, input="x" * 400).token_estimate in range(100, 120)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}},
        {"type": "input_audio", "input_audio": {"format": "wav", "data": "A" * 1_000_000}},
        {"type": "image", "source": {"type": "base64", "data": "A" * 1_000_000}},
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 1_000_000},
    ],
)
def test_an_image_is_not_estimated_by_its_bytes(part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "What is this?"}, part]

    for request in (
        asked(messages=[{"role": "user", "content": content}], max_tokens=0),
        asked(RESPONSES, input=[{"role": "user", "content": content}], max_output_tokens=0),
    ):
        assert 1024 <= request.token_estimate <= 1200


# --- what the engine gets ---


def test_a_body_that_has_to_be_nothing_else_is_the_same_object() -> None:
    body = b'{"model": "m", "stream": true, "stream_options": {"include_usage": true}}'

    assert read_json(body, CHAT).body_for("m", ask_usage=True) is body
    assert read_json(body, CHAT).body_for("m", ask_usage=False) is body


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b" \r\n\t"])
def test_usage_is_asked_for_in_front_of_all_else(before: bytes) -> None:
    body = before + b'{ "stream":true,"x":{"y":1e400},"model":"m"}'

    changed = read_json(body, CHAT).body_for("m", ask_usage=True)

    assert changed == before + b'{"stream_options":{"include_usage":true}, "stream":true,"x":{"y":1e400},"model":"m"}'


@pytest.mark.parametrize("surface", [RESPONSES, MESSAGES, EMBEDDINGS])
def test_usage_is_not_asked_for_where_it_comes_anyway(surface: Surface) -> None:
    body = b'{"model": "m", "stream": true}'

    assert read_json(body, surface).body_for("m", ask_usage=True) is body


@pytest.mark.parametrize("fields", ["", ', "stream": false', ', "stream": null', ', "stream": 0'])
def test_usage_is_not_asked_of_an_answer_in_one_piece(fields: str) -> None:
    body = f'{{"model": "m"{fields}}}'.encode()

    assert read_json(body, CHAT).body_for("m", ask_usage=True) is body


def test_options_that_leave_usage_out_are_kept_but_for_what_would_show_it() -> None:
    body = (
        b'{"stream_options" : {"include_usage":false,"continuous_usage_stats":true,"x":1}, "model":"m", "stream":true}'
    )

    changed = read_json(body, CHAT).body_for("m", ask_usage=True)

    assert changed == b'{"stream_options" : {"include_usage": true, "x": 1}, "model":"m", "stream":true}'


def test_options_of_null_are_replaced() -> None:
    body = b'{"stream_options": null, "model": "m", "stream": true}'

    assert json.loads(read_json(body, CHAT).body_for("m", ask_usage=True))["stream_options"] == {"include_usage": True}


def test_an_alias_is_replaced_and_nothing_else() -> None:
    body = (
        b'{ "n" : 1.00e2,"big":%b, "model"\t: "alias" , "s":"\\ud800\xc3\xa9","messages":[{"model":"alias"}],"f":1e999}'
    )
    body %= b"9" * 100

    changed = read_json(body, CHAT).body_for("org/model", ask_usage=False)

    assert changed == body.replace(b'"alias"', b'"org/model"', 1)


def test_every_spelling_of_the_model_is_replaced() -> None:
    body = b'{"model": "a", "mod\\u0065l": "b", "stream": true}'

    changed = read_json(body, CHAT).body_for("\u4e2d", ask_usage=True)

    pairs = json.loads(changed, object_pairs_hook=list)
    assert [value for key, value in pairs if key == "model"] == ["\u4e2d", "\u4e2d"]
    assert dict(pairs)["stream_options"] == [("include_usage", True)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
option_values = st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "x": json_values})


@given(
    fields=st.dictionaries(st.text(), json_values, max_size=5),
    options=option_values,
    stream=st.booleans(),
    style=st.fixed_dictionaries({"indent": st.none() | st.integers(0, 2), "ensure_ascii": st.booleans()}),
    model=st.text(min_size=1, max_size=20),
)
def test_a_changed_body_says_the_same_but_for_the_change(
    fields: dict[str, Any], options: Any, stream: bool, style: dict[str, Any], model: str
) -> None:
    request = fields | {"stream": stream, "stream_options": options, "model": "alias"}
    body = json.dumps(request, **style).encode()

    asked = read_json(body, CHAT)
    changed = json.loads(asked.body_for(model, ask_usage=True))

    if not asked.wants_usage:
        request["stream_options"] = (options or {}) | {"include_usage": True}
    assert changed == request | {"model": model}


# --- where the conversation begins ---


def turns(*messages: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in messages]


FIRST = [("system", "Be brief."), ("user", "Who was Ada?")]
LATER = [*FIRST, ("assistant", "A mathematician."), ("user", "And Grace?")]


@pytest.mark.parametrize(
    ("surface", "first", "later"),
    [
        (CHAT, {"messages": turns(*FIRST)}, {"messages": turns(*LATER), "temperature": 1}),
        (
            MESSAGES,
            {"system": "Be brief.", "messages": turns(("user", "Who was Ada?"))},
            {"system": "Be brief.", "messages": turns(*LATER[1:])},
        ),
        (
            RESPONSES,
            {"instructions": "Be brief.", "input": "Who was Ada?"},
            {"instructions": "Be brief.", "input": turns(*LATER[1:])},
        ),
        (COMPLETIONS, {"prompt": "x" * 1024}, {"prompt": "x" * 1024 + "more"}),
        (COMPLETIONS, {"prompt": ["x" * 1024]}, {"prompt": "x" * 1024 + "more"}),
        (COMPLETIONS, {"prompt": [[1, 2] * 128]}, {"prompt": [1, 2] * 500}),
    ],
)
def test_every_turn_has_the_prefix_of_its_conversation(
    surface: Surface, first: dict[str, Any], later: dict[str, Any]
) -> None:
    prefix = asked(surface, **first).prefix()

    assert prefix
    assert asked(surface, **later).prefix() == prefix


def test_another_question_is_another_conversation_however_long_the_system_prompt() -> None:
    system = ("system", "x" * 100_000)

    one, other = (asked(messages=turns(system, ("user", text))).prefix() for text in ("Who was Ada?", "Who was Bob?"))

    assert one != other


def test_a_late_difference_in_a_long_question_tells() -> None:
    one, other = (asked(messages=turns(("user", "x" * 100_000 + end))).prefix() for end in "ab")

    assert one != other


def test_a_cache_control_that_moves_on_changes_nothing() -> None:
    def part(**more: Any) -> list[dict[str, Any]]:
        return [{"type": "text", "text": "Who was Ada?", **more}]

    first = turns(("user", part(cache_control={"type": "ephemeral"})))
    later = turns(("user", "Who was Ada?"), ("assistant", "..."), ("user", part(cache_control={"type": "ephemeral"})))

    assert asked(MESSAGES, messages=first).prefix() == asked(MESSAGES, messages=later).prefix()


def test_a_system_block_that_differs_with_every_request_is_left_out() -> None:
    one, other = (
        asked(
            MESSAGES,
            system=[
                {"type": "text", "text": f"x-anthropic-billing-header: cch={n};"},
                {"type": "text", "text": "Be brief."},
            ],
            messages=turns(("user", "Hi")),
        ).prefix()
        for n in (1, 2)
    )

    assert one == other


def test_two_images_are_two_conversations() -> None:
    one, other = (
        asked(messages=turns(("user", [{"type": "image_url", "image_url": {"url": url}}]))).prefix() for url in "ab"
    )

    assert one
    assert one != other


@pytest.mark.parametrize(
    ("surface", "fields"),
    [
        (EMBEDDINGS, {"input": "Hi"}),
        (CHAT, {}),
        (CHAT, {"messages": "Hi"}),
        (CHAT, {"messages": [1, None, "x", {"role": "user"}, {"role": "user", "content": 5}]}),
        (CHAT, {"messages": [{"role": "user", "content": [1, None, {"text": 5}, {"image_url": 7}]}]}),
        (RESPONSES, {"input": None}),
        (COMPLETIONS, {"prompt": []}),
        (COMPLETIONS, {"prompt": {"a": 1}}),
        (COMPLETIONS, {"prompt": [None, {}]}),
    ],
)
def test_where_nothing_is_said_there_is_no_prefix(surface: Surface, fields: dict[str, Any]) -> None:
    assert asked(surface, **fields).prefix() is None


@given(
    content=json_values,
    role=st.sampled_from(["user", "system", "tool"]) | json_values,
    surface=st.sampled_from([CHAT, MESSAGES, RESPONSES, COMPLETIONS]),
)
def test_a_prefix_is_bounded_whatever_the_request_holds(content: Any, role: Any, surface: Surface) -> None:
    fields = {"messages": [{"role": role, "content": content}], "input": content, "prompt": content, "system": content}

    request = asked(surface, **fields)

    assert len(request.prefix() or b"") < 8400
    assert request.token_estimate >= 0


# --- forms ---

BOUNDARY = "x-x-x"
TYPE = f"multipart/form-data; boundary={BOUNDARY}".encode()


def form(*parts: tuple[str, bytes], boundary: str = BOUNDARY) -> bytes:
    """Parts by what stands in Content-Disposition behind `form-data; `."""
    pieces = [
        f"--{boundary}\r\nContent-Disposition: form-data; {what}\r\n\r\n".encode() + value + b"\r\n"
        for what, value in parts
    ]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def read_form(*chunks: bytes) -> FormReader:
    reader = FormReader(TYPE)
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    return reader


FILE = ('name="file"; filename="a.wav"', b"RIFF\r\n--x-x\r\n\x00\xff" * 50)


@given(
    value=st.text(min_size=1, max_size=30).filter(lambda text: BOUNDARY not in text),
    file_first=st.booleans(),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
)
def test_however_a_form_is_cut_its_model_and_where_it_stands_are_found(
    value: str, file_first: bool, cuts: list[int]
) -> None:
    parts = [("name=stream", b"true"), ('name="model"', value.encode())]
    body = form(FILE, *parts) if file_first else form(*parts, FILE)
    edges = sorted({0, *(cut % len(body) for cut in cuts), len(body)})

    reader = read_form(*(body[start:end] for start, end in itertools.pairwise(edges)))

    assert (reader.model, reader.streamed) == (value, True)
    assert reader.model_span is not None
    assert body[slice(*reader.model_span)] == value.encode()


def test_a_model_is_known_before_the_file_has_come() -> None:
    body = form(('name="model"', b"whisper"), FILE)
    reader = FormReader(TYPE)

    reader.feed(body[: body.index(b"RIFF")])

    assert reader.model == "whisper"


def test_a_form_that_is_cut_off_is_a_bad_request() -> None:
    body = form(('name="model"', b"whisper"), FILE)
    reader = FormReader(TYPE)
    reader.feed(body[:-8])

    with pytest.raises(ApiError, match="not a valid form"):
        reader.finish()


@pytest.mark.parametrize(
    "part",
    [
        ('name="file"', b"model"),
        ('name="model"; filename="m"', b"whisper"),
        ('name="models"', b"whisper"),
        ('filename="model"', b"whisper"),
    ],
)
def test_a_form_without_a_model_is_a_bad_request(part: tuple[str, bytes]) -> None:
    with pytest.raises(ApiError) as caught:
        read_form(form(part))
    assert (caught.value.status, caught.value.param) == (400, "model")


@pytest.mark.parametrize(
    ("value", "status"), [(b"", 400), (b"\xff", 400), (b"x" * 3000, 400), (b"x" * 600, 404), ("é".encode() * 600, 404)]
)
def test_a_form_with_a_model_that_is_no_name_is_refused(value: bytes, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        FormReader(TYPE).feed(form(('name="model"', value)))
    assert (caught.value.status, caught.value.param) == (status, "model")


def test_a_form_with_two_models_is_refused() -> None:
    reader = FormReader(TYPE)

    with pytest.raises(ApiError, match="more than one"):
        reader.feed(form(('name="model"', b"a"), ('name="model"', b"b")))


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 300,
        b"multipart/mixed; boundary=x",
    ],
)
def test_what_is_no_form_or_has_no_boundary_is_a_bad_request(content_type: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        FormReader(content_type)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"--other\r\n",
        b"--x-x-x\r\nbad header\r\n\r\n",
        b"--x-x-x\r\nx: " + b"y" * 10_000,
        b"--x-x-x\r\n" + b"x: y\r\n" * 100,
        b"--x-x-x\r\nx: y\rz",
    ],
)
def test_a_malformed_form_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(ApiError, match="not a valid form"):
        FormReader(TYPE).feed(body)


@given(body=st.binary(max_size=200), cut=st.integers(0, 200))
def test_no_bytes_are_worse_than_a_bad_request(body: bytes, cut: int) -> None:
    data = form(("name=stream", b"1"))[:-10] + body

    with pytest.raises(ApiError):
        read_form(data[:cut], data[cut:])
