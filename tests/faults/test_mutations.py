"""The defects that can be put back."""

from __future__ import annotations

import pytest

from .mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.defect)
def test_a_defect_still_fits_the_code(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.right) == 1
    assert mutation.right != mutation.wrong
