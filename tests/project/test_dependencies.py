"""Each package declares what its code imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
BROUGHT_BY = {"pydantic-core": "pydantic"}
"""Distributions that another one pins to one version."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project(folder: Path) -> dict[str, Any]:  # any value of TOML
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return found


def declared(folder: Path) -> set[str]:
    known = project(folder)
    extras = known.get("optional-dependencies", {}).values()
    requirements = [*known["dependencies"], *(text for extra in extras for text in extra)]
    return {normalized(re.split(r"[^\w.-]", text)[0]) for text in requirements}


def imported(folder: Path) -> set[str]:
    """The top-level packages of others that its code imports, also within functions."""
    package = normalized(project(folder)["name"]).replace("-", "_")
    names: set[str] = set()
    for path in (folder / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, package}


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: str(project(folder)["name"]))
def test_a_package_declares_what_it_imports(folder: Path) -> None:
    providers = packages_distributions()
    known = declared(folder)

    missing = {
        name
        for name in imported(folder)
        if known.isdisjoint(
            BROUGHT_BY.get(normalized(one), normalized(one)) for one in providers.get(name, [name])
        )
    }

    assert missing == set()
