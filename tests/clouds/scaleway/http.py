"""The stand-in's HTTP: one thread a connection, on loopback, kept alive as the real one keeps it."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.clouds.scaleway import bill, routes, servers
from tests.clouds.scaleway.errors import Refused
from tests.clouds.scaleway.exchange import Answer, Request
from tests.clouds.scaleway.faults import Dropped, Faults, Hung
from tests.clouds.scaleway.state import Books, Timing

PROJECT = "11111111-1111-1111-1111-111111111111"


def utc_now() -> datetime:
    return datetime.now(UTC)


class FakeScaleway:
    """`books` hold what there is; take `books.lock` to look at them while calls are under way."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = utc_now,
        timing: Timing | None = None,
        free_address: Callable[[], str] | None = None,
        project: str = PROJECT,
        secret_key: str | None = None,
        port: int = 0,
    ) -> None:
        numbers = itertools.count(1)
        self.books = Books(
            clock=clock,
            timing=timing or Timing(),
            free_address=free_address or (lambda: _benchmark_address(next(numbers))),
            project=project,
            secret_key=secret_key,
        )
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def faults(self) -> Faults:
        return self.books.faults

    def start(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def bill(self) -> list[bill.Line]:
        with self.books.lock:
            self.books.settle()
            return bill.lines(self.books)

    def switch_off(self, server_id: str) -> None:
        """As somebody with the console would."""
        with self.books.lock:
            servers.switch_off(self.books, self.books.servers[server_id])

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return routes.answer(self.books, request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _handler(cloud: FakeScaleway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # one packet an answer: head and body apart would wait for the peer's delayed ACK
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            try:
                self._send(cloud.answer(self._request()))
            except Refused as refused:
                self._send_refusal(refused)
            except Dropped:
                self.close_connection = True
            except Hung:
                self.rfile.read(1)  # comes back when the caller hangs up
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815 - the library's names

        def _request(self) -> Request:
            url = urlsplit(self.path)
            return Request(
                method=self.command,
                path=url.path,
                query=parse_qs(url.query),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            )

        def _send(self, answer: Answer) -> None:
            if isinstance(answer.payload, dict):
                self._write(answer.status, "application/json", json.dumps(answer.payload).encode(), answer.headers)
            else:
                self._write(answer.status, "text/plain", answer.payload or b"", answer.headers)

        def _send_refusal(self, refused: Refused) -> None:
            if isinstance(refused.body, dict):
                self._write(refused.status, "application/json", json.dumps(refused.body).encode(), {})
            else:
                self._write(refused.status, "text/html", (refused.body or "").encode(), {})

        def _write(self, status: int, content_type: str, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


def _benchmark_address(number: int) -> str:
    """From 198.18.0.0/15, which is nobody's."""
    return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
