"""A defect, addressed by the function and the statement that it replaces, in any module."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DoesNotFitError", "Mutation"]

PACKAGE = "kafkaesk_core"


class DoesNotFitError(Exception):
    """The code does not have the function, or the statement, exactly once."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """Replaces `right` by `wrong` in `place`; an empty `wrong` removes it.

    `place` is a function (`Class.method` or `function`) or a variable of a module. `right` is a
    statement or an expression in it, compared by its syntax tree: blanks, line breaks and the
    module do not count. `tests` are the tests that must catch the defect.
    """

    defect: str
    what: str
    place: str
    right: str
    wrong: str
    tests: tuple[str, ...]

    def file_in(self, root: Path) -> Path:
        """Return the module that has the place and the right code.

        Raises:
            DoesNotFitError: no module has it, or several have it.
        """
        found = [
            path
            for path in sorted((root / PACKAGE).rglob("*.py"))
            if self._found_in(path.read_text())
        ]
        if len(found) != 1:
            raise DoesNotFitError(f"{self.defect}: {len(found)} modules have {self.place}")
        return found[0]

    def apply(self, source: str) -> str:
        """Return the module's source with the defect.

        Raises:
            DoesNotFitError: the place does not have the right code exactly once.
        """
        found = self._found_in(source)
        if len(found) != 1:
            raise DoesNotFitError(
                f"{self.defect}: {self.place} has {len(found)} times {self.right!r}"
            )
        return _replace(source, found[0], textwrap.dedent(self.wrong).strip())

    def _found_in(self, source: str) -> list[ast.stmt | ast.expr]:
        """Return all occurrences of the right code in the place."""
        wanted = ast.dump(_parse(self.right))
        return [
            node
            for place in _places(ast.parse(source), self.place)
            for node in ast.walk(place)
            if isinstance(node, ast.stmt | ast.expr) and ast.dump(node) == wanted
        ]


def _parse(text: str) -> ast.stmt | ast.expr:
    """Parse a statement, or an expression that is not a statement by itself."""
    (statement,) = ast.parse(textwrap.dedent(text).strip()).body
    is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call | ast.Await)
    if isinstance(statement, ast.Expr) and not is_call:
        return statement.value
    return statement


def _places(tree: ast.AST, name: str) -> Iterator[ast.AST]:
    """Return the module's functions or variables with a name."""
    owner, _, own = name.rpartition(".")
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            yield from _places(node, own)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not owner and node.name == own:
                yield node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not owner:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == own for target in targets):
                yield node


def _replace(source: str, node: ast.stmt | ast.expr, wrong: str) -> str:
    lines = source.splitlines(keepends=True)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[first].encode()[: node.col_offset].decode()
    after = lines[last].encode()[node.end_col_offset :].decode()
    if isinstance(node, ast.stmt):
        wrong = textwrap.indent(wrong or "pass", before).removeprefix(before)
    return "".join([*lines[:first], before, wrong, after, *lines[last + 1 :]])
