"""Implements `kafkaesk new`: writes a service that passes its own checks."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from unicodedata import normalize

import click

from kafkaesk_core import ConfigurationError

__all__ = ["make_project"]

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "@package@/__init__.py": "package_init.py",
    "@package@/app.py": "app.py",
    "@package@/models.py": "models.py",
    "schemas/Order-1.json": "Order-1.json",
    "schemas/Invoice-1.json": "Invoice-1.json",
    "tests/test_app.py": "test_app.py",
    "Dockerfile": "Dockerfile",
    "compose.yml": "compose.yml",
    ".github/workflows/ci.yml": "ci.yml",
    ".gitignore": "gitignore",
    ".dockerignore": "dockerignore",
}
"""The files of a service, and those of the template, whose names end in ".txt"."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_LONGEST = 50
_TAKEN = frozenset(("build", "dist", "kafka", "schemas", "tests"))
"""Names of other folders or containers of the service."""


def make_project(name: str, folder: Path, commands: Collection[str]) -> None:
    """Write the service to a new or empty folder, and print the next steps.

    Raises:
        ConfigurationError: the name is invalid, or the folder cannot be written.
    """
    for problem in _problems(name, commands):
        raise ConfigurationError(f"{name!r} cannot be the name of a service: {problem}")
    _check_folder(folder)
    for path, text in _render(name).items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{target} cannot be written: {error.strerror}") from error
    click.echo(f"made {folder} ({len(FILES)} files). Next:\n")
    for step in _next_steps(name, folder):
        click.echo(f"  {step}")


def _problems(name: str, commands: Collection[str]) -> Iterator[str]:
    package = _package_of(name)
    if not _NAME.fullmatch(name):
        plain = normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        words = "-".join(re.findall(r"[a-z0-9]+", plain)).lstrip("-0123456789")
        hint = f", as in {words}" if _NAME.fullmatch(words) else ""
        yield (
            "Python must be able to import it; write small letters, digits and hyphens, and begin "
            f"with a letter{hint}"
        )
    elif len(name) > _LONGEST:
        yield f"it has {len(name)} characters; write at most {_LONGEST}"
    elif keyword.iskeyword(package):
        yield f"{package} is a keyword of Python; choose another one"
    elif package in sys.stdlib_module_names:
        yield f"{package} is a module of Python's standard library; choose another one"
    elif name in commands:
        yield f"`kafkaesk {name}` is a command; choose another one"
    elif package in _TAKEN:
        yield "something else in the service is called so; choose another one"
    elif _is_installed(package):
        yield f"{package} is an installed package; choose another one"


def _package_of(name: str) -> str:
    return name.replace("-", "_")


def _is_installed(package: str) -> bool:
    """Whether the name would hide a package; a mere folder of this name does not count."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return True
    return found is not None and found.origin is not None


def _check_folder(folder: Path) -> None:
    """Refuse a folder with files, except those of a new git repository."""
    try:
        existing = [each.name for each in folder.iterdir() if each.name != ".git"]
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be used: {error.strerror}") from error
    if existing:
        raise ConfigurationError(
            f"{folder} exists and is not empty ({', '.join(sorted(existing)[:3])}); nothing was "
            "written; name another folder with --out"
        )


def _render(name: str) -> dict[str, str]:
    texts = {"@name@": name, "@package@": _package_of(name), "@core@": _compatible_versions()}

    def fill(text: str) -> str:
        for placeholder, value in texts.items():
            text = text.replace(placeholder, value)
        return text

    template = files(__package__) / "template"
    return {
        fill(path): fill((template / f"{source}.txt").read_text(encoding="utf-8"))
        for path, source in FILES.items()
    }


def _compatible_versions() -> str:
    """Return the versions compatible with the installed one, for a requirement: ">=0.1,<0.2"."""
    major, minor = map(int, version("kafkaesk-core").split(".")[:2])
    following = f"0.{minor + 1}" if major == 0 else f"{major + 1}"
    return f">={major}.{minor},<{following}"


def _next_steps(name: str, folder: Path) -> Iterator[str]:
    yield f"cd {folder}"
    yield "python -m venv .venv && . .venv/bin/activate"
    yield "pip install -e '.[dev]'"
    yield "pytest"
    yield f"kafkaesk dev {name}"
