"""The defects that can be put back."""

from __future__ import annotations

import ast

import pytest

from faults.mutation import DoesNotFitError, Mutation
from faults.mutations import MUTATIONS, ROOT

SOURCE = """
class Door:
    def close(self, hard: bool) -> None:
        if hard and self.is_open:
            self.slam(
                1,
            )
        self.is_open = False


SOUNDS = {"slam": loud, "click": soft}
"""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.defect)
def test_a_defect_still_fits_the_code(mutation: Mutation) -> None:
    source = mutation.file_in(ROOT).read_text()

    broken = mutation.apply(source)

    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(source))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.defect)
def test_a_defect_names_the_tests_that_must_catch_it(mutation: Mutation) -> None:
    assert mutation.tests
    assert all((ROOT / path).is_file() for path in mutation.tests)


def mutation(place: str, right: str, wrong: str) -> Mutation:
    return Mutation("test", "a door", place, right, wrong, tests=())


@pytest.mark.parametrize(
    ("place", "right", "wrong", "there"),
    [
        ("Door.close", "self.slam(1)", "", "            pass\n        self.is_open"),
        ("Door.close", "self.slam(1)", "a()\nb()", "            a()\n            b()\n"),
        ("Door.close", "self.is_open = False", "", "        pass\n"),
        ("Door.close", "hard and self.is_open", "hard", "        if hard:\n"),
        ("SOUNDS", "loud", "soft", '{"slam": soft, "click": soft}'),
    ],
)
def test_a_statement_or_an_expression_is_found_by_its_meaning(
    place: str, right: str, wrong: str, there: str
) -> None:
    broken = mutation(place, right, wrong).apply(SOURCE)

    assert there in broken
    ast.parse(broken)


@pytest.mark.parametrize(
    ("place", "right"),
    [("Door.open", "self.is_open = False"), ("Door.close", "self.is_open = True")],
)
def test_what_does_not_fit_is_reported(place: str, right: str) -> None:
    with pytest.raises(DoesNotFitError, match=place):
        mutation(place, right, "").apply(SOURCE)
