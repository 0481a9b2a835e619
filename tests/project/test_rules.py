"""The project's own rules, where no tool has them."""

from __future__ import annotations

import ast
import configparser
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import kafkaesk_core
from kafkaesk_core import errors
from kafkaesk_core.hooks import Hooks

ROOT = Path(__file__).parents[2]
PACKAGES = [
    ROOT / "kafkaesk_core",
    *(folder / folder.name for folder in (ROOT / "plugins").iterdir() if folder.is_dir()),
]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
BANNED_NAMES = {"utils", "common", "helpers", "types"}
MAX_MODULE, MAX_FUNCTION = 500, 40
MAX_API = 700
"""For application.py: the public API is one class, and a method of it mostly its signature."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=MODULES, ids=name_of)
def module(request: pytest.FixtureRequest) -> ast.Module:
    path: Path = request.param
    return ast.parse(path.read_text(), filename=str(path))


def test_exports_are_sorted_and_complete() -> None:
    exported = kafkaesk_core.__all__

    assert exported == sorted(exported)
    assert set(errors.__all__) <= set(exported)
    assert all(hasattr(kafkaesk_core, name) for name in exported)
    public = {name for name in vars(kafkaesk_core) if name[0] != "_"} - _submodules()
    assert public - {"attach_stub"} == set(exported)


def test_the_stub_lists_what_it_imports() -> None:
    """A type checker reads `__all__` of the stub; at run time it is what the stub imports."""
    stub = ast.parse((ROOT / "kafkaesk_core" / "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    imported = [alias.name for node in imports for alias in node.names]
    (listed,) = [ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign)]

    assert sorted(imported) == sorted(listed) == kafkaesk_core.__all__


def _submodules() -> set[str]:
    folder = ROOT / "kafkaesk_core"
    return {path.stem for path in folder.iterdir()}


def test_every_module_begins_with_a_sentence(module: ast.Module) -> None:
    docstring = ast.get_docstring(module)

    assert docstring is not None
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":"))


def test_no_module_keeps_state(module: ast.Module) -> None:
    """Constants in capitals, type aliases, loggers; nothing that changes, and no `global`."""
    changing = [
        target.id
        for statement in module.body
        for target, value in _assigned(statement)
        if isinstance(value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp))
        and target.id != "__all__"
        and not target.id.lstrip("_").isupper()
    ]

    assert changing == []
    assert not any(isinstance(node, ast.Global) for node in ast.walk(module))


def _assigned(statement: ast.stmt) -> Iterator[tuple[ast.Name, ast.expr]]:
    if isinstance(statement, ast.Assign):
        yield from ((t, statement.value) for t in statement.targets if isinstance(t, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target, statement.value or statement.target


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_stay_small_and_have_telling_names(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    most = MAX_API if path.stem == "application" else MAX_MODULE
    assert len(code_lines(path.read_text())) <= most


def test_functions_stay_small(module: ast.Module) -> None:
    long = {
        node.name: length
        for node in ast.walk(module)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := _length_without_docstring(node)) > MAX_FUNCTION
        and not _is_only_signature(node)
    }

    assert long == {}


def _length_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _is_only_signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return not node.body


def code_lines(source: str) -> set[int]:
    """Lines with code: neither blank, nor comment, nor docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_text = token.type == tokenize.STRING and token.line.lstrip().startswith(('"""', "r'"))
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE) or is_text:
            continue
        if token.type not in (tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def test_the_floors_of_the_design_are_those_that_are_checked() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:floors"]["layers"].split("\n")[1:]
    table = (ROOT / "DESIGN.md").read_text().partition("| floor |")[2].partition("\n\n")[0]

    shown = [re.findall(r"`(\w+)`", row.split("|")[2]) for row in table.splitlines()[2:]]

    assert shown == [layer.strip().split(" : ") for layer in layers]
    assert len(shown) <= 9


HOOKS = sorted(name for name, value in vars(Hooks).items() if hasattr(value, "kafkaesk_spec"))


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_when_it_runs_and_what_an_exception_does(hook: str) -> None:
    docstring = getattr(Hooks, hook).__doc__

    assert docstring is not None
    assert any(word in docstring for word in ("Runs", "Around", "Called", "Entered", "Claim"))
    assert any(word in docstring for word in ("exception", "rror", "stops the start"))


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_arguments(hook: str) -> None:
    import inspect

    arguments = list(inspect.signature(getattr(Hooks, hook)).parameters)[1:]

    assert f"`{hook}({', '.join(arguments)})`" in (ROOT / "DESIGN.md").read_text()


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_called_by_a_test(hook: str) -> None:
    tests = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert any(f"def {hook}(" in text for text in tests)


def test_all_packages_have_one_version() -> None:
    import tomllib

    projects = [ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")]
    versions = {tomllib.loads(path.read_text())["project"]["version"] for path in projects}

    assert len(versions) == 1


def test_the_modules_that_the_design_names_are_there() -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", (ROOT / "DESIGN.md").read_text()))

    assert {name for name in named if not (ROOT / "kafkaesk_core" / name).is_file()} == set()
    assert len(named) > 15
