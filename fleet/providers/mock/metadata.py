"""A mock spot machine's metadata service: what AWS's tells a machine of its end, and the end itself.

Run as a file by `boot`, with nothing but the standard library. Once the file of the notice is there, it is told
(IMDSv2); at the instant in it the machine is taken back: every process of its session is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer

_TOKEN = secrets.token_hex(16)
_LOOK_EVERY = 0.2  # seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--notice", type=Path, required=True, help="a file: what spot/instance-action answers")
    arguments = parser.parse_args()
    machine = os.getppid()
    server = _Server((arguments.host, arguments.port), arguments.notice)
    while os.getppid() == machine:  # it does not outlive the main process
        server.handle_request()
        if _is_over(arguments.notice):
            os.killpg(0, signal.SIGKILL)


class _Server(TCPServer):  # not HTTPServer, which asks the DNS for its name
    allow_reuse_address = True
    timeout = _LOOK_EVERY

    def __init__(self, address: tuple[str, int], notice: Path) -> None:
        super().__init__(address, _Handler)
        self.notice = notice


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 1.0  # for a client that says nothing: requests are served one after the other

    def do_PUT(self) -> None:
        if self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
            return self._answer(200, _TOKEN)
        return self._answer(400, "")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != _TOKEN:
            return self._answer(401, "")
        if self.path == "/latest/meta-data/spot/instance-action" and self.server.notice.exists():
            return self._answer(200, self.server.notice.read_text())
        return self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        return  # the console is for what happens


def _is_over(notice: Path) -> bool:
    if not notice.exists():
        return False
    at = datetime.fromisoformat(json.loads(notice.read_text())["time"])
    return datetime.now(UTC) >= at


if __name__ == "__main__":
    main()
