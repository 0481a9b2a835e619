"""Every public name: its docstring says shape, units and errors, and code that runs shows it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kafkaesk_core
from kafkaesk_core import plugin
from kafkaesk_tools.reference import FOREIGN, shown_code

# Any below: public objects of every kind.

NAMES = [(kafkaesk_core, name) for name in kafkaesk_core.__all__]
NAMES += [(plugin, name) for name in plugin.__all__]
OWN = [(module, name) for module, name in NAMES if name not in FOREIGN and name != "App"]
CLASSES = [getattr(module, name) for module, name in OWN if isinstance(getattr(module, name), type)]
FUNCTIONS = [
    getattr(module, name) for module, name in OWN if inspect.isfunction(getattr(module, name))
]
SHAPELESS = re.compile(r"\bAny\b|Mapping|dict|Callable|Iterable|Sequence|tuple|list")
"""Annotations that leave open what the items are."""
TIME = re.compile(r"(^|_)(seconds|timeout|delay|age|due|at)$")
ERRORS = {
    name
    for name in kafkaesk_core.__all__
    if isinstance(error := getattr(kafkaesk_core, name), type) and issubclass(error, BaseException)
} | {"TypeError", "ValueError"}


def members(cls: type) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """The public methods and properties of a class of ours; the last says which it is."""
    for name, member in inspect.getmembers_static(cls):
        home = next((base for base in cls.__mro__ if name in vars(base)), object)
        if name.startswith("_") or not home.__module__.startswith("kafkaesk_core"):
            continue
        kind = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if isinstance(kind, property) and kind.fget is not None:
            yield name, kind.fget, True
        elif inspect.isfunction(kind):
            yield name, kind, False


CALLED = [pytest.param(None, function, id=function.__name__) for function in FUNCTIONS]
CALLED += [
    pytest.param(cls, method, id=f"{cls.__name__}.{name}")
    for cls in CLASSES
    for name, method, is_property in members(cls)
    if not is_property
]


def doc(value: object) -> str:
    return inspect.getdoc(value) or ""


def explained(owner: type | None, function: Callable[..., Any]) -> str:
    """The docstring, that of the class, and those of the methods that the first one refers to."""
    text = doc(function)
    for referred in re.findall(r"as(?: with)? `(?:Application\.)?(\w+)`|those of `(\w+)`", text):
        name = next(filter(None, referred))
        text += doc(getattr(owner, name, None)) + doc(getattr(kafkaesk_core.Application, name, ""))
    return text + (doc(owner) if owner else "")


@pytest.mark.parametrize(
    ("module", "name"), NAMES, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_public_name_begins_with_a_sentence(module: Any, name: str) -> None:
    text = FOREIGN.get(name) or doc(getattr(module, name))

    first = text.partition("\n\n")[0]
    assert first.endswith("."), first


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_methods_and_properties_of_a_public_class_are_described(cls: type) -> None:
    assert [name for name, member, _ in members(cls) if not doc(member)] == []


@pytest.mark.parametrize(("owner", "function"), CALLED)
def test_the_errors_that_a_function_raises_itself_are_listed(
    owner: type | None, function: Callable[..., Any]
) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }

    listed = doc(function).partition("Raises:")[2]
    assert [name for name in sorted(raised & ERRORS) if name not in listed] == []


@pytest.mark.parametrize(("owner", "function"), CALLED)
def test_units_and_shapes_of_arguments_are_told(
    owner: type | None, function: Callable[..., Any]
) -> None:
    text = explained(owner, function)
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "self"
    ]

    open_shapes = {p.name for p in parameters if SHAPELESS.search(str(p.annotation))}
    assert {name for name in open_shapes if not re.search(rf"\b{name}\b", text)} == set()
    times = [p.name for p in parameters if TIME.search(p.name) and "float" in str(p.annotation)]
    assert not times or "second" in text, times


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if dataclasses.is_dataclass(cls)], ids=lambda cls: cls.__name__
)
def test_units_and_shapes_of_fields_are_told(cls: Any) -> None:
    text = doc(cls) + "".join(doc(member) for _, member, _ in members(cls))
    fields = dataclasses.fields(cls)

    open_shapes = [field.name for field in fields if SHAPELESS.search(str(field.type))]
    assert [name for name in open_shapes if not re.search(rf"\b{name}\b", text)] == []
    times = [
        field.name for field in fields if TIME.search(field.name) and "float" in str(field.type)
    ]
    assert not times or "second" in text, times


def test_what_hooks_get_of_an_application_is_described_there() -> None:
    """`App` refers to `Application`, so each of its members is one of that."""
    theirs = {name for name, _, _ in members(kafkaesk_core.Application)}

    assert {name for name, _, _ in members(kafkaesk_core.App)} <= theirs


@pytest.mark.parametrize("name", [name for _, name in NAMES])
def test_a_public_name_is_shown_in_code_that_the_tests_run(name: str) -> None:
    """The API reference links to it."""
    assert any(re.search(rf"\b{name}\b", shown.code) for shown in shown_code())
