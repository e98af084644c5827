"""Attacks inside a body whose framing is right: JSON that lies or is none, forms, and heartbeats of strangers."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from tests.routing.router.hostile.attacks import Attack, Draw

BAD = frozenset({400})
SURFACES = (
    b"/v1/chat/completions",
    b"/v1/completions",
    b"/v1/embeddings",
    b"/v1/responses",
    b"/v1/rerank",
    b"/v1/score",
    b"/v1/tokenize",
    b"/v1/messages",
)
FIELDS = (
    *("messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "user"),
    *("temperature", "top_p", "stop", "tools", "tool_choice", "prompt", "input", "instructions", "system", "query"),
    *("documents", "text_1", "text_2", "response_format", "logit_bias", "seed", "metadata", "previous_response_id"),
)
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**300, 0.5, 1e308, -0.0, "", "x", "true", "null"),
    *("x" * 1_000, "\u0000", "\U0001f4a9", [], [[]], [None], [1, "a", {}], {}, {"": None}, {"a": {"b": []}}),
    *([{"role": "user"}], [{"content": None}], [{"role": 1, "content": {}}], [{"role": "user", "content": [None, 1]}]),
    *({"include_usage": None}, {"include_usage": "yes"}, {"include_usage": []}, ["include_usage"]),
)
FORM = b"/v1/audio/transcriptions"


def broken_json(draw: Draw) -> Attack:
    """A good request with a few bytes taken out, put in or changed."""
    body = bytearray(draw.chat(stream=True, max_tokens=5, temperature=0.5))
    for _ in range(draw.random.randint(1, 4)):
        at = draw.random.randrange(len(body))
        match draw.random.randrange(3):
            case 0:
                del body[at]
            case 1:
                body.insert(at, draw.random.randrange(256))
            case _:
                body[at] = draw.random.randrange(256)
    return draw.harmless(draw.request(target=draw.random.choice(SURFACES), body=bytes(body)))


def bodies_that_are_no_json(draw: Draw) -> Attack:
    body = draw.one_of(
        b"",
        b" ",
        b"{",
        b"}",
        b"null",
        b"true",
        b"1",
        b'"model"',
        b"[]",
        b"{}",
        b"{}{}",
        b"\x00",
        b"\xff\xfe",
        b"<x/>",
        b"model=x&messages=y",
        b"--b\r\n\r\n--b--",
        draw.junk(500) + b"\xff",
        b"'model'",
        b"{model: 1}",
        b"{'model': 'x'}",
        b"/* */{}",
        b'{"model": undefined}',
        b"\n" * 1_000,
        b"[" * 100,
        b"{" * 100,
        b'"' * 99,
        b"NaN",
        b"-",
        b"\\",
    )
    return draw.attack(draw.request(target=draw.random.choice(SURFACES), body=body), statuses=BAD)


def compressed_bodies(draw: Draw) -> Attack:
    """Nobody unpacks them: a small one can become very large."""
    body = draw.one_of(
        gzip.compress(draw.chat(), mtime=0), zlib.compress(b"0" * 1_000_000), b"\x1f\x8b" + draw.junk(50)
    )
    name = draw.one_of(b"gzip", b"deflate", b"br", b"identity, gzip")
    return draw.attack(draw.request(b"content-encoding: " + name, body=body), statuses=BAD)


def numbers_that_are_none(draw: Draw) -> Attack:
    number = draw.one_of(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1" * 5_000,
        b"-" + b"9" * 5_000,
        b"1e",
        b".5",
        b"5.",
        b"+1",
        b"0x10",
        b"01",
        b"1_000",
        b"--1",
        b"1e+",
        b"\xef\xbc\x91",
    )
    field = draw.random.choice(FIELDS).encode()
    body = draw.chat()[:-1] + b', "%b": %b}' % (field, number)
    return draw.attack(draw.request(target=draw.random.choice(SURFACES), body=body), statuses=BAD)


def numbers_without_measure(draw: Draw) -> Attack:
    number = draw.one_of(b"1e999999", b"-1e999999", b"1e-999999", b"9" * 4_000, b"-0", b"0.%b1" % (b"0" * 4_000))
    field = draw.random.choice(FIELDS).encode()
    return draw.harmless(
        draw.request(target=draw.random.choice(SURFACES), body=draw.chat()[:-1] + b', "%b": %b}' % (field, number))
    )


def wrong_types(draw: Draw) -> Attack:
    """For any field but the model, they are the engine's to refuse."""
    fields = {name: draw.random.choice(WRONG) for name in draw.random.sample(FIELDS, draw.random.randint(1, 6))}
    lines = [b"x-session-id: " + draw.token()] if draw.random.random() < 0.5 else []
    return draw.harmless(draw.request(*lines, target=draw.random.choice(SURFACES), body=draw.chat(**fields)))


def models_that_are_none(draw: Draw) -> Attack:
    body = json.dumps({"model": draw.random.choice(WRONG)}).encode()
    return draw.attack(draw.request(target=draw.random.choice(SURFACES), body=body), statuses=frozenset({400, 404}))


def models_with_strange_names(draw: Draw) -> Attack:
    alphabet = "a/:{}*?[]\\\"'%$#\u0000\n\r\t\u00e9\u202e\U0001f4a9 .~"
    name = draw.one_of(
        "".join(draw.random.choices(alphabet, k=draw.random.randint(1, 600))),
        draw.ground.model + draw.one_of("\u0000", " ", "/", ":instances", "\n", "\u200b", "\u0301"),
        draw.ground.model.upper(),
        draw.one_of("*", "catalog:models", "{model_id}", "instance:1", "../x", "__proto__", "EVAL", "\\ud800"),
        "x" * 100_000,
    )
    # A session makes the router look where it belongs: among no instances.
    lines = [b"x-session-id: " + draw.token()] if draw.random.random() < 0.5 else []
    body = json.dumps({"model": name, "messages": []}).encode()
    return draw.attack(draw.request(*lines, target=draw.random.choice(SURFACES), body=body), statuses=frozenset({404}))


def deep_nesting(draw: Draw) -> Attack:
    depth = draw.one_of(50, 500, 990, 1_000, 5_000, 100_000)
    opening, closing = draw.one_of((b"[", b"]"), (b'{"a":', b"}"), (b'[{"content":', b"}]"))
    nested = opening * depth + b"1" + closing * depth
    field = draw.random.choice(FIELDS).encode()
    body = draw.one_of(nested, draw.chat()[:-1] + b', "%b": %b}' % (field, nested), opening * depth)
    return draw.harmless(draw.request(target=draw.random.choice(SURFACES), body=body))


def text_that_is_none(draw: Draw) -> Attack:
    body = draw.chat()
    data = draw.one_of(
        body.replace(b"attack", b"\\ud800"),
        body.replace(b"attack", b"\\udfff\\ud800"),
        body.replace(b"attack", b"\xff\xfe"),
        body.replace(b"attack", b"\xc0\xaf"),
        body.replace(b"attack", b"\xed\xa0\x80"),
        body.replace(b"attack", b"\\x41"),
        body.replace(b"attack", b"\\u12"),
        body.replace(b"attack", b"\x00\x01"),
        body.replace(b"attack", b"a\nb"),
        body.replace(b'"user"', b'"\\ud800"'),
        body.replace(draw.ground.model.encode(), b"\\ud800"),
        b"\xef\xbb\xbf" + body,
        body.decode().encode("utf-16"),
        body.decode().encode("utf-32-le"),
        body[:-1] + b', "\\ud800": 1}',
    )
    lines = [b"content-type: application/json; charset=" + draw.one_of(b"utf-8", b"utf-16", b"utf-7", b"x")]
    return draw.harmless(draw.request(*lines, target=draw.random.choice(SURFACES), body=data))


def keys_twice(draw: Draw) -> Attack:
    model = json.dumps(draw.ground.model).encode()
    body = draw.one_of(
        b'{"model": %b, "model": "other", "messages": []}' % model,
        b'{"model": "other", "messages": [], "model": %b}' % model,
        b'{"model": %b, "\\u006dodel": "other", "messages": []}' % model,
        b'{"model": %b, "stream": true, "stream": false, "messages": []}' % model,
        b'{"model": %b, "stream": true, "stream_options": {}, "stream_options": 1}' % model,
        b'{"model": %b, "model": null}' % model,
        b"{%b}" % b", ".join([b'"model": %b' % model] * 1_000),
    )
    return draw.harmless(draw.request(target=draw.random.choice(SURFACES), body=body))


def bodies_of_every_size(draw: Draw) -> Attack:
    """Around the sizes at which buffers change their ways."""
    size = draw.one_of(1_000, 16_384, 65_535, 65_536, 65_537, 131_072, 262_144, 500_000) + draw.random.randint(-2, 2)
    body = draw.chat(user="x" * size)
    data = draw.one_of(
        draw.request(body=body), draw.request(b"transfer-encoding: chunked") + draw.chunked(body, pieces=9)
    )
    return draw.harmless(data, statuses=frozenset({200}))


# --- forms ---


def forms_that_are_none(draw: Draw) -> Attack:
    boundary = draw.token()
    kind = draw.one_of(
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 500,
        b'multipart/form-data; boundary="',
        b"multipart/mixed; boundary=" + boundary,
        b"application/json",
        b"",
        b";;;",
        b"multipart/form-data; boundary=\xff",
        b"multipart/form-data; boundary=a; boundary=b",
        b"text/plain",
        b"\x7f",
        b"multipart/form-data; boundary=" + boundary,
    )
    body = draw.one_of(b"", draw.junk(2_000), b"--" + boundary, b"--%b--\r\n" % boundary, draw.chat())
    data = draw.request(b"content-type: " + kind, target=FORM, body=body)
    return draw.attack(data, statuses=frozenset({400, 404, 415}))


def forms_with_strange_parts(draw: Draw) -> Attack:
    boundary = b"b" + draw.token()
    file = _part(
        boundary,
        b'form-data; name="file"; filename="' + draw.one_of(b"a.wav", b"../../x", b'\\"', b"\xff") + b'"',
        draw.junk(3_000),
    )
    model = _part(boundary, b'form-data; name="model"', draw.ground.model.encode())
    strange = draw.one_of(
        _part(boundary, b'form-data; name="model"', b"other"),
        _part(boundary, b'form-data; name="model"; filename="m"', draw.ground.model.encode()),
        _part(boundary, b'form-data; name="model"', b"\xff\xfe"),
        _part(boundary, b'form-data; name="model"', b"x" * 5_000),
        _part(boundary, b'form-data; name="model', b"x"),
        _part(boundary, b"form-data", b"x"),
        _part(boundary, b"form-data; name*=utf-8''model", b"x"),
        _part(boundary, b'form-data; name="' + b"x" * 20_000 + b'"', b"x"),
        b"--%b\r\nno colon\r\n\r\nx\r\n" % boundary,
        b"--%b\r\n%b\r\n" % (boundary, b"x: y\r\n" * 2_000),
        b"--%b\n\nx\n" % boundary,
        b"--%b\r\n\r\n--%b\r\n" % (boundary, boundary[:-1]),
        draw.smuggled(),
    )
    parts = [file, model, strange]
    draw.random.shuffle(parts)
    body = b"".join(parts) + draw.one_of(b"--%b--\r\n", b"--%b", b"--%b--trailing\r\n", b"%b") % boundary
    kind = b"content-type: multipart/form-data; boundary=" + boundary
    chunked = draw.random.random() < 0.5
    data = (
        draw.request(kind, b"transfer-encoding: chunked", target=FORM) + draw.chunked(body, pieces=9)
        if chunked
        else draw.request(kind, target=FORM, body=body)
    )
    return draw.harmless(data)


def _part(boundary: bytes, disposition: bytes, value: bytes) -> bytes:
    return b"--%b\r\ncontent-disposition: %b\r\n\r\n%b\r\n" % (boundary, disposition, value)


# --- heartbeats ---


def heartbeats_of_strangers(draw: Draw) -> Attack:
    beat: dict[str, Any] = {
        "instance_id": draw.one_of("x", "*", "", "\u0000", "x" * 100, "\ud800", 1, None, draw.token().decode()),
        "ready": draw.one_of(True, False, None, 1, "yes"),
        "load": draw.one_of(0, -1, 10**400, 1.5, None, True, "0", [], 2**63),
        "detail": draw.one_of("", "\ud800", "x" * 10_000, None, {}, 5),
        "interruption": draw.one_of("", "x" * 50, "\n", None, 5, []),
    }
    try:
        body = json.dumps(beat).encode()
    except ValueError:  # Python does not write so long a number
        body = b'{"instance_id": "x", "ready": true, "load": %b}' % (b"9" * 5_000)
    key = draw.one_of(None, b"", b"the agent's token", b"\xff")
    data = draw.request(target=b"/internal/heartbeat", body=draw.one_of(body, body[:-1], draw.junk(100)), key=key)
    return draw.attack(data, statuses=frozenset({400, 401, 403, 404}))


GENERATORS = (
    broken_json,
    bodies_that_are_no_json,
    compressed_bodies,
    numbers_that_are_none,
    numbers_without_measure,
    wrong_types,
    models_that_are_none,
    models_with_strange_names,
    deep_nesting,
    text_that_is_none,
    keys_twice,
    bodies_of_every_size,
    forms_that_are_none,
    forms_with_strange_parts,
    heartbeats_of_strangers,
)
