"""The parts of the engine that small changes are made to."""

from __future__ import annotations

import pytest

from faults.mutants import PARTS, Part
from faults.mutations import ROOT


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_names_modules_and_tests_that_there_are(part: Part) -> None:
    paths = [ROOT / "kafkaesk_core" / name for name in part.modules]
    tests = [ROOT / path for path in part.paths]

    assert [str(path) for path in [*paths, *tests] if not path.exists()] == []
    assert part.files(ROOT)
