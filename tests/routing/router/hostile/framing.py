"""Attacks on where a request ends: lengths, chunks, trailers, and what is sent behind them."""

from __future__ import annotations

from tests.routing.router.hostile.attacks import CRLF, Attack, Draw

CHUNKED = b"transfer-encoding: chunked"
ANSWERED = frozenset({200})


def chunk_sizes_that_are_none(draw: Draw) -> Attack:
    size = draw.one_of(
        b"",
        b"zz",
        b"-5",
        b"+5",
        b"0x5",
        b" 5",
        b"5\x00",
        b"\x0b5",
        b"5.0",
        b"1_0",
        b"\xef\xbc\x95",
        b"f" * 17,
        b"f" * 40,
        b"-0",
        b"5,5",
        b'"5"',
        b"5 5",
        b"5\n",
        b"\r5",
        draw.random.choice(b"ghijkxyz!").to_bytes(),
    )
    return draw.attack(draw.request(CHUNKED) + size + b"\r\nhello\r\n0\r\n\r\n" + draw.smuggled())


def chunk_sizes_spelled_strangely(draw: Draw) -> Attack:
    body = draw.chat()
    size = draw.one_of(b"%X", b"000%x", b"%x", b"0" * 14 + b"%x") % len(body)
    return draw.harmless(draw.request(CHUNKED) + size + CRLF + body + b"\r\n0\r\n\r\n", statuses=frozenset({200, 400}))


def chunk_extensions(draw: Draw) -> Attack:
    body = draw.chat()
    extension = draw.one_of(
        b";a=b",
        b";a",
        b';a="b c"',
        b';a="\\""',
        b"; a=b",
        b" ;a=b",
        b";a=b;c=d",
        b";" + draw.token(),
        b";=",
        b";;",
        b";a=\x01",
        b';a="',
        b";a=\xff",
        b";" + b"x" * 5_000,
    )
    data = b"%x%b\r\n%b\r\n0%b\r\n\r\n" % (len(body), extension, body, extension)
    return draw.harmless(draw.request(CHUNKED) + data, statuses=frozenset({200, 400}))


def line_ends_in_chunk_extensions(draw: Draw) -> Attack:
    """Who takes a bare LF for the line's end sees another chunk than who does not."""
    end = draw.one_of(b"\n", b"\r", b"\n\n", b"\r\r", b"\x0b\n", b"\x00\r\n")
    data = b"2;" + end + b"xx\r\n4c\r\n0\r\n\r\n" + draw.smuggled() + b"\r\n0\r\n\r\n"
    return draw.attack(draw.request(CHUNKED) + data)


def endless_chunk_extensions(draw: Draw) -> Attack:
    extension = b";" + b"x" * draw.random.randint(70_000, 300_000)
    return draw.attack(draw.request(CHUNKED) + b"5" + extension + b"\r\nhello\r\n0\r\n\r\n")


def chunks_longer_or_shorter_than_they_say(draw: Draw) -> Attack:
    body = draw.chat()
    off = draw.one_of(-7, -3, -2, -1, 1, 3, 7)
    data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) + off, body)
    return draw.attack(draw.request(CHUNKED) + data + draw.smuggled())


def chunks_without_their_line_ends(draw: Draw) -> Attack:
    body = draw.chat()
    size = b"%x" % len(body)
    data = draw.one_of(
        size + b"\n" + body + b"\r\n0\r\n\r\n",
        size + b"\r\n" + body + b"\n0\r\n\r\n",
        size + b"\r\n" + body + b"0\r\n\r\n",
        size + b"\r" + body + b"\r\n0\r\n\r\n",
        size + b"\r\n" + body + b"\r\n0\n\n",
        size + b"\r\n" + body + b"\r\n0\r\r\n",
    )
    return draw.attack(draw.request(CHUNKED) + data + draw.smuggled())


def trailers(draw: Draw) -> Attack:
    """Whatever they say, they belong to no head."""
    trailer = draw.one_of(
        b"x-trailer: 1",
        b"content-length: 5",
        b"transfer-encoding: chunked",
        b"authorization: Bearer other",
        b"host: evil.example",
        b"x-request-id: smuggled-trailer",
        b"connection: keep-alive",
    )
    data = draw.chunked(draw.chat()).removesuffix(CRLF) + trailer + CRLF + CRLF
    return draw.harmless(draw.request(CHUNKED, b"trailer: x-trailer") + data, statuses=frozenset({200, 400}))


def endless_trailers(draw: Draw) -> Attack:
    count = draw.random.randint(1_500, 4_000)
    trailer = CRLF.join(b"x-%d: %b" % (number, b"y" * 60) for number in range(count))
    data = draw.chunked(draw.chat()).removesuffix(CRLF) + trailer + CRLF + CRLF
    # The body was complete before them, so it may be under way.
    return draw.harmless(draw.request(CHUNKED) + data, statuses=frozenset({200, 400, 431}))


def both_length_and_chunks(draw: Draw) -> Attack:
    """Which of them counts is what two servers disagree about."""
    length = draw.one_of(b"content-length", b"Content-Length", b"CONTENT-LENGTH")
    encoding = draw.one_of(b"transfer-encoding", b"Transfer-Encoding", b"TRANSFER-ENCODING")
    value = draw.one_of(b"chunked", b"Chunked", b"\tchunked", b"chunked\t", b"  chunked  ", b"identity")
    lines = [length + b": %d" % draw.one_of(0, 5, 6, 10_000), encoding + b": " + value]
    draw.random.shuffle(lines)
    if draw.random.random() < 0.3:
        lines.insert(1, b"x-between: 1")
    return draw.smuggling(draw.request(*lines) + b"0\r\n\r\n")


def encodings_that_are_not_chunked(draw: Draw) -> Attack:
    line = draw.one_of(
        b"transfer-encoding: xchunked",
        b"transfer-encoding : chunked",
        b"transfer-encoding\t: chunked",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: identity, chunked",
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: chunked, chunked",
        b"transfer-encoding: gzip",
        b"transfer-encoding: chunked;q=1",
        b'transfer-encoding: "chunked"',
        b"transfer-encoding: 'chunked'",
        b"transfer-encoding: \x0bchunked",
        b"transfer-encoding: chunked\x0c",
        b"transfer-encoding: chun\x00ked",
        b"transfer-encoding:",
        b"transfer-encoding: ,chunked",
        b"transfer-encoding: chunked,",
        b"transfer-encoding: identity",
        b"transfer-encoding: c\xc4\xb1hunked",
        b" transfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
        b"transfer-encoding: x\r\n chunked",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"transfer-encoding:\n chunked",
        b"\x00transfer-encoding: chunked",
        b"transfer-encoding: \xa0chunked",
        b"transfer encoding: chunked",
    )
    return draw.smuggling(draw.request(line) + b"0\r\n\r\n")


def encodings_that_are_chunked(draw: Draw) -> Attack:
    line = draw.one_of(
        b"Transfer-Encoding: CHUNKED",
        b"transfer-encoding:chunked",
        b"transfer-encoding: \t chunked \t ",
        b"transfer-encoding: chunkeD",
        b"transfer-encoding:\tchunked",
        b"transfer-encoding:\r\n chunked",
    )
    return draw.harmless(draw.request(line) + draw.chunked(draw.chat()), statuses=frozenset({200, 400}))


def headers_that_look_like_framing(draw: Draw) -> Attack:
    """Harmless to us; a server that takes _ for - would read them as framing, so no engine may get them."""
    line = draw.one_of(
        b"transfer_encoding: chunked",
        b"Transfer_Encoding: chunked",
        b"content_length: 5",
        b"Content_Length: 0",
        b"transfer-encodin: chunked",
        b"x-transfer-encoding: chunked",
        b"content-lengt: 5",
        b"te: chunked",
    )
    return draw.harmless(draw.request(line, body=draw.chat()), statuses=frozenset({200, 400}))


def two_lengths(draw: Draw) -> Attack:
    body = draw.chat()
    length = len(body)
    lines = draw.one_of(
        [b"content-length: %d" % length] * 2,
        [b"content-length: %d" % length, b"content-length: 0"],
        [b"content-length: 0", b"content-length: %d" % length],
        [b"content-length: %d" % length, b"Content-Length: %d" % (length + draw.random.randint(1, 9))],
        [b"content-length: %d, %d" % (length, length)],
        [b"content-length: %d,0" % length],
        [b"content-length: %d" % length, b"content-length:"],
        [b"content-length: %d" % length] * draw.random.randint(3, 50),
    )
    return draw.smuggling(draw.request(*lines) + body)


def lengths_that_are_none(draw: Draw) -> Attack:
    value = draw.one_of(
        b"+10",
        b"0x10",
        b"-1",
        b"-0",
        b"1e1",
        b"10.",
        b"10.0",
        b"\xef\xbc\x91\xef\xbc\x90",
        b"1 0",
        b"1_0",
        b"ten",
        b"",
        b'"10"',
        b"10;",
        b"10,",
        b"10\x00",
        b"\x0b10",
        b"0b11",
        b"NaN",
        b"10\r\n 0",
        b"9" * 20,
        b"9" * 400,
        b"18446744073709551616",
        b"18446744073709551626",
        b"10\x0c",
        b"\xb9",
        b"10 0",
    )
    return draw.smuggling(draw.request(b"content-length: " + value) + b"x" * 10)


def lengths_without_end(draw: Draw) -> Attack:
    """Right, but more than anybody may send."""
    length = draw.one_of(10 * 1024 * 1024 + 1, 2**31, 2**32, 2**32 + 10, 2**63 - 1, 2**63, 2**64 - 1)
    data = draw.request(b"content-length: %d" % length) + draw.smuggled()
    return draw.attack(data, statuses=frozenset({400, 413}))


def lengths_spelled_strangely(draw: Draw) -> Attack:
    body = draw.chat()
    value = draw.one_of(b"000%d", b"  %d  ", b"\t%d\t", b"0" * 30 + b"%d") % len(body)
    line = draw.one_of(b"content-length:", b"Content-Length: ", b"CONTENT-LENGTH:\t") + value
    return draw.harmless(draw.request(line) + body, statuses=frozenset({200, 400}))


def lengths_with_space_before_the_colon(draw: Draw) -> Attack:
    body = draw.chat()
    space = draw.one_of(b" ", b"\t", b"  ", b"\x0b", b"\x00", b"\r\n ")
    return draw.smuggling(draw.request(b"content-length" + space + b": %d" % len(body)) + body)


def bodies_that_stop_short(draw: Draw) -> Attack:
    """The attacker hangs up in the middle."""
    body = draw.chat()
    whole = draw.one_of(
        draw.request(body=body), draw.request(CHUNKED) + draw.chunked(body), draw.request(b"content-length: 1000")
    )
    return draw.attack(whole[: draw.random.randint(1, len(whole) - 1)], incomplete=True)


def requests_within_a_body(draw: Draw) -> Attack:
    """A body that is a request itself: it is one, and stays one."""
    body = draw.chat(user=draw.smuggled().decode())
    raw = draw.one_of(body, draw.smuggled(), CRLF + draw.smuggled(), draw.smuggled() * 3)
    framed = draw.one_of(draw.request(body=raw), draw.request(CHUNKED) + draw.chunked(raw))
    return draw.harmless(framed)


def requests_within_a_body_that_nobody_reads(draw: Draw) -> Attack:
    """The answer is given without the body, which is in the way of the next request all the same."""
    raw = draw.smuggled()
    data = draw.one_of(
        draw.request(method=b"GET", target=b"/v1/models", body=raw),
        draw.request(method=b"GET", target=b"/healthz", body=raw),
        draw.request(b"transfer-encoding: chunked", method=b"GET", target=b"/v1/models") + draw.chunked(raw),
        draw.request(method=b"DELETE", target=b"/v1/models", body=raw),
        draw.request(target=b"/v1/nonsense", body=raw),
        draw.request(key=b"wrong", body=raw),
        draw.request(host=b"host: evil.example", body=raw),
        draw.request(method=b"OPTIONS", body=raw),
        draw.request(CHUNKED, key=b"wrong") + draw.chunked(raw),
    )
    return draw.attack(data, statuses=frozenset({200, 204, 400, 401, 404, 405}))


def expectations(draw: Draw) -> Attack:
    """Nobody waits for the 100 that he asked for."""
    value = draw.one_of(b"100-continue", b"100-Continue", b"200-ok", b"100-continue, 100-continue", b"", b"x")
    key = draw.one_of(None, b"wrong")
    method = draw.one_of(b"POST", b"POST", b"GET")
    data = draw.request(b"expect: " + value, body=draw.chat(), key=key, method=method)
    return draw.harmless(data, statuses=frozenset({200, 400, 401, 405, 417}))


GENERATORS = (
    chunk_sizes_that_are_none,
    chunk_sizes_spelled_strangely,
    chunk_extensions,
    line_ends_in_chunk_extensions,
    endless_chunk_extensions,
    chunks_longer_or_shorter_than_they_say,
    chunks_without_their_line_ends,
    trailers,
    endless_trailers,
    both_length_and_chunks,
    encodings_that_are_not_chunked,
    encodings_that_are_chunked,
    headers_that_look_like_framing,
    two_lengths,
    lengths_that_are_none,
    lengths_without_end,
    lengths_spelled_strangely,
    lengths_with_space_before_the_colon,
    bodies_that_stop_short,
    requests_within_a_body,
    requests_within_a_body_that_nobody_reads,
    expectations,
)
