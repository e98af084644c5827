"""Attacks on a request's head: its first line, its headers, where it claims to go."""

from __future__ import annotations

import gzip

from tests.routing.router.hostile.attacks import CRLF, Attack, Draw

NOT_HTTP = frozenset({400, 505})
NOT_FOUND = frozenset({400, 404, 405})
PATHS = (b"/v1/chat/completions", b"/v1/models", b"/internal/heartbeat", b"/healthz", b"/readyz", b"/metrics")


def heads_too_large(draw: Draw) -> Attack:
    size = draw.random.randint(66_000, 400_000)
    data = draw.one_of(
        draw.request(b"x: " + b"y" * size, body=draw.chat()),
        draw.request(b"y" * size + b": x", body=draw.chat()),
        draw.request(target=b"/v1/chat/completions?" + b"x" * size, body=draw.chat()),
        draw.request(key=b"x" * size, body=draw.chat()),
        draw.request(b"cookie: " + b"a=b; " * (size // 5), body=draw.chat()),
    )
    return draw.attack(data, statuses=frozenset({400, 414, 431}))


def headers_too_many(draw: Draw) -> Attack:
    count = draw.one_of(101, 200, 1_000, 3_000)
    lines = [b"x-%d: 1" % number for number in range(count)]
    return draw.attack(draw.request(*lines, body=draw.chat()))


def nul_bytes(draw: Draw) -> Attack:
    data = draw.one_of(
        draw.request(b"x: a\x00b", body=draw.chat()),
        draw.request(b"x\x00: a", body=draw.chat()),
        draw.request(method=b"PO\x00ST", body=draw.chat()),
        draw.request(target=b"/v1/chat\x00/completions", body=draw.chat()),
        draw.request(version=b"HTTP/1.1\x00", body=draw.chat()),
        draw.request(key=draw.ground.key.encode() + b"\x00", body=draw.chat()),
        b"\x00" * draw.random.randint(1, 100) + draw.request(body=draw.chat()),
    )
    return draw.attack(data, statuses=frozenset({400}))


def bare_line_feeds(draw: Draw) -> Attack:
    """Some take them for line ends, some don't."""
    head, _, rest = draw.request(body=draw.chat()).partition(CRLF + CRLF)
    data = draw.one_of(
        head.replace(CRLF, b"\n") + b"\n\n" + rest,
        head + b"\n\n" + rest,
        head + b"\r\n\n" + rest,
        head.replace(CRLF, b"\r") + b"\r\r" + rest,
        head + b"\r\nx: a\nb: c\r\n\r\n" + rest,
        head + b"\r\nx: a\rcontent-length: 0\r\n\r\n" + rest,
        head + b"\r\nx: a\ntransfer-encoding: chunked\r\n\r\n" + rest,
        head + b"\r\nx: a\n\n" + draw.smuggled() + CRLF + CRLF + rest,
    )
    return draw.attack(data)


def folded_headers(draw: Draw) -> Attack:
    line = draw.one_of(
        b"x: a\r\n b",
        b"x: a\r\n\tb",
        b"x:\r\n a",
        b"x: a\r\n content-length: 5",
        b"x: a\r\n\r\n b",
        b"x: a\r\n transfer-encoding: chunked",
        b" x: a",
        b"\tx: a",
    )
    data = draw.request(line, body=draw.chat())
    return draw.attack(data, statuses=frozenset({200, 400}), may_reach=True)


def header_names_that_are_none(draw: Draw) -> Attack:
    name = draw.one_of(
        b"",
        b" ",
        b"x y",
        b"x\ty",
        b"x(y)",
        b"x,y",
        b"x;y",
        b"x@y",
        b"x[y]",
        b"x{y}",
        b'"x"',
        b"x/y",
        b"x?y",
        b"\xff",
        b"x\xc3\xa9",
        b"x\x01",
        b"x\x7f",
        b"x=y",
        b"x\\y",
        b"<x>",
        b"x\x0b",
    )
    data = draw.one_of(draw.request(name + b": 1", body=draw.chat()), draw.request(name, body=draw.chat()))
    return draw.attack(data)


def header_values_with_control_characters(draw: Draw) -> Attack:
    control = draw.random.choice([bytes([code]) for code in (*range(1, 9), 11, 12, *range(14, 32), 127)])
    name = draw.one_of(b"x", b"user-agent", b"x-session-id", b"content-type", b"cookie")
    line = name + b": a" + control + b"b"
    # They are not allowed, but no harm: a parser may drop them. What an engine gets has none of them.
    return draw.harmless(draw.request(line, body=draw.chat()), statuses=frozenset({200, 400}))


def header_values_of_any_bytes(draw: Draw) -> Attack:
    value = bytes(draw.random.choices([9, *range(32, 127), *range(128, 256)], k=draw.random.randint(1, 300)))
    name = draw.one_of(b"x", b"user-agent", b"accept", b"x-session-id", b"traceparent", b"origin", b"referer")
    return draw.harmless(draw.request(name + b": " + value, body=draw.chat()))


def first_lines_that_are_none(draw: Draw) -> Attack:
    line = draw.one_of(
        b"POST /v1/models",
        b"POST",
        b"GET  /v1/models HTTP/1.1",
        b"get /v1/models HTTP/1.1",
        b"GET\t/v1/models HTTP/1.1",
        b" GET /v1/models HTTP/1.1",
        b"GET /v1/models  HTTP/1.1",
        b"GET /v1/models HTTP/1.1 ",
        b"GET /v1/models http/1.1",
        b"GET /v1/models HTTP/1.1 HTTP/1.1",
        b"GET /v1/mo dels HTTP/1.1",
        b"HTTP/1.1 200 OK",
        b"G" * 1000,
        b"ICY 200 OK",
        b"\xff\xfe\xfd",
        b":",
        b"GET /v1/models HTTP/1",
        b"GET /v1/models HTTP/",
        b"GET /v1/models XTTP/1.1",
        b"GET v1/models HTTP/1.1",
        b"GET ?x HTTP/1.1",
        b"FROBNICATE /v1/models HTTP/1.1",
        b"SOURCE / ICE/1.0",
    )
    data = line + b"\r\nhost: localhost\r\nauthorization: Bearer " + draw.ground.key.encode() + CRLF + CRLF
    return draw.attack(data, statuses=NOT_HTTP)


def versions_that_are_none_of_ours(draw: Draw) -> Attack:
    version = draw.one_of(
        b"HTTP/9.9",
        b"HTTP/1.2",
        b"HTTP/1.10",
        b"HTTP/01.1",
        b"HTTP/2.0",
        b"HTTP/0.9",
        b"HTTP/3",
        b"HTTP/1.1.1",
        b"HTTP/-1.1",
        b"HTTP/1,1",
        b"HTTP/ 1.1",
        b"HTTP/65536.65537",
        b"HTTPS/1.1",
        b"HTTP/1.01",
    )
    return draw.attack(draw.request(version=version, body=draw.chat()), statuses=NOT_HTTP)


def old_clients(draw: Draw) -> Attack:
    """HTTP/1.0: served, and never with what it does not know."""
    lines = draw.one_of([], [b"connection: keep-alive"], [b"expect: 100-continue"])
    return draw.harmless(draw.request(*lines, version=b"HTTP/1.0", body=draw.chat()), statuses=frozenset({200}))


def old_clients_with_chunks(draw: Draw) -> Attack:
    """HTTP/1.0 has none, so that whoever is between us may have seen another body."""
    data = draw.request(b"transfer-encoding: chunked", version=b"HTTP/1.0") + draw.chunked(draw.chat())
    return draw.smuggling(data)


def targets_on_other_servers(draw: Draw) -> Attack:
    """Absolute and authority form: of a proxy, which we are to nobody but our engines."""
    target = draw.one_of(
        b"http://evil.example/v1/chat/completions",
        b"http://127.0.0.1:22/",
        b"http://169.254.169.254/latest/meta-data",
        b"https://evil.example/",
        b"ftp://localhost/v1/chat/completions",
        b"file:///etc/passwd",
        b"evil.example:443",
        b"http://",
        b"http:///v1/models",
        b"http://localhost:99999/",
        b"http://user:pass@localhost/internal/heartbeat",
        b"gopher://localhost/",
        b"//evil.example/v1/chat/completions",
        b"http:/v1/chat/completions",
        b"localhost:80",
        b"unix:///var/run/docker.sock",
        b"http://[::1]/v1/models",
        b"http://[::1/v1/models",
        b"*",
        b"**",
    )
    method = draw.one_of(b"POST", b"GET", b"CONNECT", b"OPTIONS")
    data = draw.request(method=method, target=target, body=draw.chat())
    # In absolute form the path is ours, whatever server is named.
    named_us = target.startswith(b"http") and target.endswith(b"/v1/chat/completions") and method == b"POST"
    return draw.attack(data, statuses=frozenset({200, 204, 400, 401, 404, 405}), may_reach=named_us)


def path_tricks(draw: Draw) -> Attack:
    target = draw.one_of(
        b"//v1/chat/completions",
        b"/v1//chat/completions",
        b"/v1/chat/completions/",
        b"/v1/../internal/heartbeat",
        b"/v1/chat/completions/../../../tokenize",
        b"/v1/./chat/completions",
        b"/v1/%2e%2e/internal/heartbeat",
        b"/v1/chat/completions;jsessionid=1",
        b"/v1/chat/completions%00",
        b"/v1/chat/completions%0d%0a",
        b"/%2e/",
        b"/v1/chat%5ccompletions",
        b"/v1\\chat\\completions",
        b"/%c0%ae%c0%ae/internal",
        b"/v1/chat/completions%20",
        b"/V1/CHAT/COMPLETIONS",
        b"/v1/chat/completions%",
        b"/v1/chat/completions%zz",
        b"/v1/models/../chat/completions",
        b"/v1/models/" + b"%2e%2e%2f" * 20,
        b"/v1/models/%ff%fe",
        b"/v1/models/" + b"x" * 5_000,
        b"/v1/models/",
        b"/tokenize",
        b"/metrics/..",
        b"/v1/completions/%2e%2e/tokenize",
        b"/debug/route/../../v1",
        b"/" + draw.token(),
        b"/v1/chat/completions#fragment",
        b"/#",
        b"/v1/load_lora_adapter",
        b"/sleep",
        b"/reset_prefix_cache",
        b"/invocations",
    )
    return draw.attack(draw.request(target=target, body=draw.chat()), statuses=NOT_FOUND)


def paths_in_disguise(draw: Draw) -> Attack:
    """They mean a path of ours; the engine gets its own, and nothing of the disguise."""
    target = draw.one_of(
        b"/v1/chat/%63ompletions",
        b"/v1%2fchat%2fcompletions",
        b"/%76%31/chat/completions",
        b"/v1/chat/completions?a=b",
        b"/v1/chat/completions?",
        b"/v1/chat/completions?x=/../../internal",
        b"http://localhost/v1/chat/completions",
        b"/v1/chat/completions?%0d%0ahost:evil",
        b"/v1/chat/completions?stream=true",
    )
    return draw.harmless(draw.request(target=target, body=draw.chat()))


def host_tricks(draw: Draw) -> Attack:
    host = draw.one_of(
        b"host: evil.example",
        b"host:",
        b"x-no-host: 1",
        b"host: localhost\r\nhost: evil.example",
        b"host: localhost, evil",
        b"host: localhost@evil.example",
        b"host: evil.example#localhost",
        b"host: localhost.evil.example",
        b"host: .localhost",
        b"host: evil.example:localhost",
        b"host: [::1",
        b"host: localhost:80:80",
        b"host: localhost\r\nHost: localhost",
        b"host: localhost\x0bevil",
        b"host: evil\r\nx-forwarded-host: localhost",
        b"host: \xff\xfe",
        b"host: xlocalhost",
        b"host : localhost",
        b"host: localhost/../",
        b"host: " + b"a." * 3_000,
        b"host: localhost\\evil",
        b"host: *",
    )
    return draw.attack(draw.request(host=host, body=draw.chat()))


def upgrades(draw: Draw) -> Attack:
    """Nothing else is spoken here: the request is answered as if it had not asked."""
    protocol = draw.one_of(b"h2c", b"websocket", b"TLS/1.0", b"HTTP/2.0", b"", b"h2c, websocket", draw.token())
    lines = [
        b"connection: upgrade, http2-settings",
        b"upgrade: " + protocol,
        b"http2-settings: AAMAAABkAARAAAAAAAIAAAAA",
    ]
    if draw.random.random() < 0.5:
        return draw.harmless(draw.request(*lines, body=draw.chat()), statuses=frozenset({200, 400}))
    data = draw.request(
        *lines, b"sec-websocket-key: x", b"sec-websocket-version: 13", method=b"GET", target=b"/v1/models"
    )
    return draw.attack(data, statuses=frozenset({200, 400}))


def other_protocols(draw: Draw) -> Attack:
    preface = draw.one_of(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        bytes.fromhex("16030100f6010000f203039a") + b"\x00" * 200 + CRLF + CRLF,
        b"\x05\x01\x00\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x00\x00\x00\x54\xff\x53\x4d\x42\r\n\r\n",
        b"EHLO localhost\r\n\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n\r\n",
        gzip.compress(b"GET / HTTP/1.1\r\n\r\n", mtime=0) + CRLF + CRLF,
    )
    return draw.smuggling(preface, statuses=NOT_HTTP)


def noise(draw: Draw) -> Attack:
    # The line ends: whoever is sent half a line has to wait.
    return draw.attack(b"\xff" + draw.junk(3_000) + CRLF + CRLF, statuses=NOT_HTTP)


def keys_that_are_none(draw: Draw) -> Attack:
    key = draw.one_of(
        b"",
        b"\xff\xfe\xfd",
        b"inv_" + draw.token(),
        b"x" * 10_000,
        b"null",
        b"*",
        b"../../etc/passwd",
        b"inv_\xc3\xa9",
        draw.ground.key.encode()[:-1],
        draw.ground.key.upper().encode(),
        draw.ground.key.encode() + b" x",
        b"', '1'='1",
        b"\xf0\x9f\x92\xa9",
        b"x\r\nx-evil: 1",
    )
    return draw.attack(draw.request(key=key, body=draw.chat()), statuses=frozenset({400, 401}))


def other_ways_to_say_who_one_is(draw: Draw) -> Attack:
    """None of them may reach an engine beside our own."""
    line = draw.one_of(
        b"authorization: Bearer other",
        b"Authorization: Basic dTpw",
        b"x-api-key: other",
        b"api-key: other",
        b"proxy-authorization: Bearer other",
        b"cookie: session=1",
        b"x_api_key: other",
    )
    return draw.harmless(draw.request(line, body=draw.chat()), statuses=frozenset({200, 400, 401}))


def headers_taken_off_by_connection(draw: Draw) -> Attack:
    """What Connection names is not sent on, but what we set ourselves must be."""
    named = draw.random.sample(
        [
            b"authorization",
            b"content-length",
            b"host",
            b"x-request-id",
            b"content-type",
            b"transfer-encoding",
            b"close",
        ],
        3,
    )
    return draw.harmless(draw.request(b"connection: " + b", ".join(named), body=draw.chat()))


def headers_for_neighbours_only(draw: Draw) -> Attack:
    """What Connection should have named, and did not."""
    line = draw.one_of(
        b"upgrade: h2c",
        b"keep-alive: timeout=5",
        b"proxy-connection: keep-alive",
        b"te: trailers",
        b"trailer: x",
        b"proxy-authenticate: Basic",
        b"connection:",
        b"connection: ,,",
    )
    return draw.harmless(draw.request(line, body=draw.chat()))


def methods(draw: Draw) -> Attack:
    method = draw.one_of(b"GET", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND")
    target = draw.random.choice(PATHS)
    data = draw.request(b"origin: https://evil.example", method=method, target=target, body=draw.one_of(b"", b"{}"))
    return draw.attack(data, statuses=frozenset({200, 400, 401, 403, 404, 405, 501, 503}))


GENERATORS = (
    heads_too_large,
    headers_too_many,
    nul_bytes,
    bare_line_feeds,
    folded_headers,
    header_names_that_are_none,
    header_values_with_control_characters,
    header_values_of_any_bytes,
    first_lines_that_are_none,
    versions_that_are_none_of_ours,
    old_clients,
    old_clients_with_chunks,
    targets_on_other_servers,
    path_tricks,
    paths_in_disguise,
    host_tricks,
    upgrades,
    other_protocols,
    noise,
    keys_that_are_none,
    other_ways_to_say_who_one_is,
    headers_taken_off_by_connection,
    headers_for_neighbours_only,
    methods,
)
