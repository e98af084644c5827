from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 25, 12, tzinfo=UTC)


@dataclass
class Clock:
    at: datetime = START

    def __call__(self) -> datetime:
        return self.at

    def forward(self, delta: timedelta) -> None:
        self.at += delta

    @property
    def told(self) -> str:
        """As the story shows it: since the start."""
        return f"{(self.at - START).total_seconds():9.1f} s"
