"""How many clients are connected to this process: said by the server, where it can say so."""

from __future__ import annotations

from collections.abc import Sized


class Connections:
    def __init__(self) -> None:
        self.of_server: Sized = ()

    @property
    def open(self) -> int:
        return len(self.of_server)
