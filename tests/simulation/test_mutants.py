"""Each mutant is killed by a schedule that the code as it is survives."""

from __future__ import annotations

import pytest

from tests.simulation.invariants import Violation
from tests.simulation.mutants import MUTANTS, Mutant

pytestmark = pytest.mark.usefixtures("theatre")


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_it_is_killed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.killed_by()

    mutant.apply(monkeypatch)
    with pytest.raises(Violation):
        mutant.killed_by()
