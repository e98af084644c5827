"""The database as actors meet it: every statement that writes, and every commit, is a point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection

from tests.simulation.actors import Killed
from tests.simulation.director import Director, is_dead

_WRITES = ("INSERT", "UPDATE", "DELETE")

# In the order in which they depend on each other.
_CLEAR = """
    SET lock_timeout = '5s';
    DELETE FROM leaks; DELETE FROM rentals; DELETE FROM sweeps; DELETE FROM transitions; DELETE FROM deployments;
    DELETE FROM attempts; DELETE FROM heartbeat_refusals; DELETE FROM instances; DELETE FROM deployment_requests;
    DELETE FROM quota_refusals; DELETE FROM clock_ticks;
    UPDATE instance_availability SET last_success_at = NULL, last_stockout_at = NULL;
"""


def clear() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_CLEAR)


@contextmanager
def watched(director: Director) -> Iterator[None]:
    """For the time of a task, in its own thread: its connection's writes are the director's points."""
    connection.ensure_connection()
    commit = connection._commit  # type: ignore[attr-defined]
    set_autocommit = connection.set_autocommit

    def committing() -> None:
        # Held locks would stop the others for real: a transaction is cut short here, never stretched.
        director.at("commit", may_pause=False)
        _fail(director, director.chances.database_error, "the connection was lost before the commit")
        commit()
        _fail(director, director.chances.ambiguous_commit, "the connection was lost in the commit")

    def setting_autocommit(autocommit: bool, *args: Any, **kwargs: Any) -> None:
        begins = not autocommit
        if begins:
            director.at("begin")
        elif is_dead():
            raise Killed
        set_autocommit(autocommit, *args, **kwargs)
        if not begins:
            director.at("committed", after=True)

    connection._commit = committing  # type: ignore[attr-defined]
    connection.set_autocommit = setting_autocommit  # type: ignore[method-assign]
    try:
        with connection.execute_wrapper(_statement(director)):
            yield
    finally:
        del connection._commit  # type: ignore[attr-defined]
        del connection.set_autocommit


def _statement(director: Director) -> Callable[..., Any]:
    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        verb = sql.lstrip()[:6].upper()
        alone = not connection.in_atomic_block
        if not alone or verb not in _WRITES:
            return run(sql, params, many, context)
        table = _table(sql)
        director.at(f"before {verb.lower()} {table}")
        _fail(director, director.chances.database_error, "the connection was lost")
        result = run(sql, params, many, context)
        _fail(director, director.chances.ambiguous_commit, "the connection was lost after the statement")
        director.at(f"after {verb.lower()} {table}", after=True)
        return result

    return execute


def _table(sql: str) -> str:
    return sql.split('"', 2)[1] if '"' in sql else "?"


def _fail(director: Director, chance: float, how: str) -> None:
    if director.strikes(chance):
        director.tell(f"database: {how}")
        raise OperationalError(how)
