"""The site: every block of code on its pages runs, and its outputs and references are real.

A comment before a block says what it is: `run: shop.py` begins a service, `append: shop.py` adds to
it, `pytest: test_shop.py` is a test, `script: x.py` a program, `file: x` is only there for others.
`meanwhile: shop.py` are commands for a second terminal, with an address in place of the broker's.
`output of: x` shows lines of what it printed, where x is a file without its ending, or `meanwhile`.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kafkaesk_tools.peers import peer_python
from kafkaesk_tools.reference import PAGES
from tests.project.test_documents import OUTPUT, Service, without_numbers

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"<!-- (run|append|meanwhile|pytest|script|file): (\S+?)(?:, prints: ([^\n]+))? -->\n"
    r"```\w+\n(.*?)```",
    re.DOTALL,
)
WRITTEN = [path for path in sorted(DOCS.rglob("*.md")) if path.parent.name != "reference"]


def environment_of(page: Path) -> dict[str, str]:
    """Readers have the plugins that a page installs; the tests switch this one off."""
    return {"KAFKAESK_RETRY_ENABLED": str("kafkaesk_retry" in page.read_text()).lower()}


ADDRESS = re.compile(r"connected to (\S+);")
PEERS = {"from/faststream.md": "faststream", "from/faust.md": "faust"}
"""The pages whose old programs need another library, which has an environment of its own."""
needs_peers = pytest.mark.skipif(
    "PEERS" not in os.environ, reason="PEERS=1 installs FastStream and faust, and runs these"
)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)#]+)\)")


@dataclass(frozen=True)
class Block:
    kind: str
    file: str
    prints: str
    code: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text())]


def write_files(page: Path, folder: Path) -> None:
    """All files of a page as they are at its end."""
    texts: dict[str, str] = defaultdict(str)
    for block in blocks(page):
        if block.kind != "meanwhile":
            texts[block.file] += block.code + "\n"
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS))


def runs(kind: str) -> list[Any]:
    """The blocks of a kind that print something, as parameters of a test."""
    found = [(page, block) for page in WRITTEN for block in blocks(page) if block.kind == kind]
    return [
        pytest.param(
            *(page, block),
            id=f"{name_of(page)}-{block.file}",
            marks=needs_peers if name_of(page) in PEERS else (),
        )
        for page, block in found
        if block.prints
    ]


@pytest.mark.parametrize(("page", "block"), runs("run"))
def test_a_service_of_a_page_prints_what_the_page_says(
    page: Path, block: Block, tmp_path: Path
) -> None:
    write_files(page, tmp_path)
    app = f"{Path(block.file).stem}:app"
    with Service(app, tmp_path, tmp_path / "output", **environment_of(page)) as service:
        for each in blocks(page):
            if each.kind == "meanwhile":
                printed = run_meanwhile(each, service, tmp_path, environment_of(page))
                compare(page, "meanwhile", printed)
            if each.file == block.file and each.prints:
                service.wait_for(each.prints)
        assert service.stop() == 0

    compare(page, Path(block.file).stem, service.output.read_text())


def compare(page: Path, source: str, printed: str) -> None:
    """Look for each line that the page shows as printed by this source."""
    real = {without_numbers(line) for line in printed.splitlines()}
    for named, text in OUTPUT.findall(page.read_text()):
        for line in text.splitlines() if named == source else ():
            assert any(without_numbers(line) in each for each in real), line


def run_meanwhile(
    block: Block, service: Service, folder: Path, environment: Mapping[str, str]
) -> str:
    (address,) = set(ADDRESS.findall(service.printed))
    commands = re.sub(r"(?<=embedded://)[\d.:]+", address, block.code)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = run(["bash", "-euc", commands], folder, **environment, PATH=path)

    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "block"), runs("pytest"))
def test_the_tests_of_a_page_pass(page: Path, block: Block, tmp_path: Path) -> None:
    write_files(page, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", block.file]

    done = run(command, tmp_path, **environment_of(page))

    assert block.prints in done.stdout, done.stdout + done.stderr
    compare(page, Path(block.file).stem, done.stdout)


@pytest.mark.parametrize(("page", "block"), runs("script"))
def test_a_program_of_a_page_prints_what_the_page_says(
    page: Path, block: Block, tmp_path: Path, kafka: Any
) -> None:
    write_files(page, tmp_path)
    peer = PEERS.get(name_of(page)) if block.file.startswith("old_") else None
    python = sys.executable if peer is None else str(peer_python(peer))

    done = run([python, block.file], tmp_path, KAFKA=",".join(kafka.servers))

    assert block.prints in done.stdout, done.stdout + done.stderr


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_python_block_of_a_page_runs_or_is_used_by_one_that_does(page: Path) -> None:
    assert page.read_text().count("```python") == sum(
        block.file.endswith(".py") and block.kind != "meanwhile" for block in blocks(page)
    )
    for block in blocks(page):
        if block.kind in ("file", "script") and block.file.endswith(".py"):
            compile(block.code, block.file, "exec")


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / "reference" / name).read_text() == PAGES[name](), "run `uv run docs`"


def test_the_help_of_every_command_keeps_its_lines() -> None:
    """A raw docstring would show the mark that click reads as the two characters it is."""
    assert "\\b" not in (DOCS / "reference/command.md").read_text()


def log_texts() -> str:
    """Every text of the core, with N in place of what is filled in."""
    texts = []
    for path in (ROOT / "kafkaesk_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "N" for v in node.values)
                texts.append("".join(map(str, parts)))
    return re.sub(r"%[.\d]*[gdfrs]", "N", "\n".join(texts))


@pytest.mark.parametrize(
    "line", re.findall(r"^\| `([^`]+)` \|", (DOCS / "guides/redelivered.md").read_text(), re.M)
)
def test_a_line_of_the_log_that_a_page_explains_is_logged(line: str) -> None:
    texts = log_texts()

    assert all(part.strip(" ;:") in texts for part in line.split("..."))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_the_images_of_a_page_exist(page: Path) -> None:
    missing = [
        name for name in IMAGE.findall(page.read_text()) if not (page.parent / name).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_a_page_links_only_to_what_the_site_has(page: Path) -> None:
    """The build does not look at links that lead out of it."""
    targets = (page.parent / link for link in LINK.findall(page.read_text()))

    assert [str(path) for path in targets if not path.resolve().is_relative_to(DOCS)] == []


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    """Dead links and anchors are warnings, and the build is strict."""
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")

    done = run([sys.executable, "-m", "zensical", "build", "--strict"], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*.html")}
    assert len(pages) > len(WRITTEN)
    loading = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+"')
    for page in pages:
        assert not loading.search((tmp_path / "site" / page).read_text()), page
