"""What is around an agent, over real HTTP on loopback: a control plane, a router and an engine that can be told how
to answer; and a clock that a test moves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

METADATA_TOKEN, METADATA_NOTICE = "/latest/api/token", "/latest/meta-data/spot/instance-action"
BOOTSTRAP, HEARTBEAT = "/internal/workers/bootstrap", "/internal/heartbeat"
ENGINE_KEY = "engine-api-key"


@dataclass(frozen=True)
class Request:
    path: str
    body: dict[str, Any]
    authorization: str
    peer: str  # the address that it came from


@dataclass
class Surroundings:
    """`bootstrap` and `heartbeat` are the status to answer with; 0 closes the connection without an answer."""

    url: str = ""
    bootstrap: int = 200
    hf_token: str = ""
    heartbeat: int = 200
    drain: bool = False
    location: str = ""  # for a redirect
    health: int = 503
    running: int = 0
    waiting: int = 0
    finished: int = 0
    notice: str = ""  # what the metadata service tells; empty: not found
    metadata: int = 200  # the status with which it gives a token
    looks: int = 0  # at the notice, with the token
    requests: list[Request] = field(default_factory=list)

    def sent(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    @property
    def heartbeats(self) -> list[dict[str, Any]]:
        return [request.body for request in self.sent(HEARTBEAT)]

    def answer_to(self, path: str) -> tuple[int, bytes]:
        if path == BOOTSTRAP:
            return self.bootstrap, json.dumps({"engine_api_key": ENGINE_KEY, "hf_token": self.hf_token}).encode()
        if path == HEARTBEAT:
            return self.heartbeat, json.dumps({"status": "READY", "drain": self.drain}).encode()
        if path == METADATA_TOKEN:
            return self.metadata, b"metadata-token"
        if path == METADATA_NOTICE:
            self.looks += 1
            return (200 if self.notice else 404), self.notice.encode()
        if path == "/health":
            return self.health, b""
        return 200, self._metrics().encode()

    def _metrics(self) -> str:
        return (
            "# TYPE vllm:num_requests_running gauge\n"
            f'vllm:num_requests_running{{model_name="m"}} {self.running}.0\n'
            f'vllm:num_requests_waiting{{model_name="m"}} {self.waiting}.0\n'
            f'vllm:num_requests_waiting_by_reason{{model_name="m"}} 99.0\n'
            f'vllm:request_success_total{{finished_reason="stop",model_name="m"}} {self.finished}.0\n'
        )


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def some_surroundings() -> Iterator[Surroundings]:
    around = Surroundings()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == METADATA_NOTICE and self.headers["X-aws-ec2-metadata-token"] != "metadata-token":
                self.send_error(401)
                return
            self._answer()

        def do_PUT(self) -> None:
            if self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
                self._answer()
            else:
                self.send_error(400)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            around.requests.append(
                Request(self.path, body, self.headers.get("Authorization", ""), self.client_address[0])
            )
            self._answer()

        def _answer(self) -> None:
            status, body = around.answer_to(self.path)
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            if around.location:
                self.send_header("Location", around.location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    around.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield around
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
