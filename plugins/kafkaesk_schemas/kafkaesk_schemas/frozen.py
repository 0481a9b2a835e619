"""Frozen contracts: one file per version of a schema, in a folder or a git revision."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from kafkaesk_core import ConfigurationError

from .contract import Contract, read_contract

__all__ = ["FOLDER", "file_name", "read_frozen", "write_frozen"]

FOLDER = "schemas"
_GIT = "git:"
_SECONDS = 30


def file_name(contract: Contract) -> str:
    """Return the name of a contract's file: "Order-1.json"."""
    return f"{quote(contract.id, safe=' ')}-{contract.version}.json"


def read_frozen(source: str, folder: str = FOLDER) -> dict[str, Contract]:
    """Return the frozen contracts by key; a missing folder has none.

    `source` is a folder, or "git:REV" for `folder` at a revision.

    Raises:
        ConfigurationError: the revision does not exist, or a file is not a frozen schema.
    """
    is_git = source.startswith(_GIT)
    texts = _of_git(source.removeprefix(_GIT), folder) if is_git else _of_folder(Path(source))
    found: dict[str, Contract] = {}
    for where, text in texts:
        contract = read_contract(text, where)
        if contract.key in found:
            raise ConfigurationError(
                f"{where} holds {contract.key}, and so does another file; delete one of them"
            )
        found[contract.key] = contract
    return found


def write_frozen(contracts: Mapping[str, Contract], folder: Path) -> None:
    """Write each contract to its file."""
    folder.mkdir(parents=True, exist_ok=True)
    for contract in contracts.values():
        (folder / file_name(contract)).write_text(contract.to_text(), encoding="utf-8")


def _of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.json")):
        yield str(path), path.read_text(encoding="utf-8")


def _of_git(revision: str, folder: str) -> Iterator[tuple[str, str]]:
    if not revision or revision.startswith("-"):
        raise ConfigurationError(f"{revision!r} is not a revision; write git:main, or git:HEAD~1")
    _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", revision=revision)
    listed = _git("ls-tree", "--name-only", "-z", revision, f"./{folder}/", revision=revision)
    for name in filter(lambda name: name.endswith(".json"), listed.split("\0")):
        yield f"{revision}:{name}", _git("show", f"{revision}:./{name}", revision=revision)


def _git(*arguments: str, revision: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"git cannot be asked for {revision!r}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or "there is no such revision"
        raise ConfigurationError(
            f"git does not show {revision!r} here: {said}; fetch it first, in a CI job with its "
            "whole history, or name another one"
        )
    return done.stdout.decode()
