"""One running stack (one per xdist worker) for all of these tests; each leaves it as it found it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.running_stack import QUICK, RunningStack

HERE = Path(__file__).parent


for client in ("httpx", "httpx2"):
    logging.getLogger(client).setLevel(logging.WARNING)  # waiting asks often


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.acceptance)
            item.add_marker(pytest.mark.xdist_group(item.path.stem))  # a file's tests follow each other


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    # Not below pytest's own directory, which is for root's eyes only where root runs: Postgres would not get in.
    directory = Path(tempfile.mkdtemp(prefix="inv-acc-"))
    stack = RunningStack(directory / "home", QUICK)
    try:
        stack.start("--no-demo")
        yield stack
    finally:
        stack.destroy(logs=tmp_path_factory.mktemp("stack") / "log")
        shutil.rmtree(directory)


@pytest.fixture
def served(stack: RunningStack) -> str:
    """The id of an instance that serves MODEL."""
    return stack.serve()
