"""What `make run` shows: steps that tick off on a terminal, one line for each finished step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


@dataclass
class Step:
    name: str
    detail: str = ""
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None  # None: under way
    failed: bool = False

    def finish(self, *, failed: bool = False) -> None:
        self.seconds = time.monotonic() - self.started
        self.failed = failed


class Progress:
    """Use as a context; `step` times a block. The display refreshes itself, from a thread of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[Step] = []
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=8)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        step = Step(name)
        self._steps.append(step)
        try:
            yield step
        except BaseException:
            step.finish(failed=True)
            raise
        else:
            step.finish()
        finally:
            self._print(step)

    def _print(self, step: Step) -> None:
        if not self._console.is_terminal:
            name = f"{step.name} (not finished)" if step.failed else step.name
            self._console.print(f"  {name:<14} {step.seconds:6.1f} s  {step.detail}", highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=2, justify="right")
        table.add_column(min_width=14)
        table.add_column(width=8, justify="right")
        table.add_column(style="dim")
        for step in self._steps:
            seconds = step.seconds if step.seconds is not None else time.monotonic() - step.started
            table.add_row(self._mark(step), step.name, f"{seconds:.1f} s", Text(step.detail))
        return table

    def _mark(self, step: Step) -> RenderableType:
        if step.seconds is None:
            return self._spinner
        return Text("✗", style="red") if step.failed else Text("✓", style="green")
