"""The guide "Develop": a session with the commands prints what the page shows."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import Program, kafkaesk
from tests.project.test_documents import OUTPUT, without_numbers

from .conftest import Project, make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GUIDE = Path(__file__).parents[3] / "docs/guides/develop.md"
PATIENCE = 150.0
PUBLISH = "kafkaesk publish orders.placed"
ORDER = '{"number": 1, "article": "tea", "cents": 350}'


def shape(line: str) -> str:
    """A line without what is different each time."""
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\d\d:\d\d:\d\d\.\d+", "TIME", line)
    line = re.sub(r"\d+ (?:s|min) ago", "AGE", line)
    return " ".join(without_numbers(line).split())


def missing(name: str, printed: str) -> list[str]:
    """The lines of the page that were not printed."""
    shown = dict(OUTPUT.findall(GUIDE.read_text()))[name]
    real = [shape(line) for line in printed.splitlines()]
    return [line for line in shown.splitlines() if not any(shape(line) in each for each in real)]


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    return make(tmp_path, "shop")


@pytest.fixture
def developing(shop: Project) -> Iterator[Program]:
    with kafkaesk("dev", "shop", folder=shop.folder, **shop.environment) as program:
        program.wait_for("group shop: assigned orders.placed", within=PATIENCE)
        yield program


def test_the_commands_of_the_guide_print_what_it_shows(shop: Project, developing: Program) -> None:
    (servers,) = re.findall(r"embedded://\S+", developing.printed)

    def run(command: str) -> str:
        done = shop.run(command, KAFKAESK_KAFKA_SERVERS=servers, COLUMNS="500")
        return done.stdout + done.stderr

    published = run(f"{PUBLISH} '{ORDER}' --app shop --key customer-7")
    refused = run(f"""{PUBLISH} '{{"number": 1, "article": "tea"}}' --app shop""")
    developing.wait_for("sent an invoice of 350 cents for order 1", within=PATIENCE)
    tailed = run("kafkaesk tail invoices.sent")
    run(f"""{PUBLISH} '{{"number": 2}}' --raw --partition 0""")
    inspected = run("kafkaesk inspect shop 'orders.placed[0]@0'")
    (shop.folder / "shop/app.py").write_text("def bill(:\n")
    developing.wait_for("ended with code 2; waiting for a change", within=PATIENCE)
    code = developing.end(signal.SIGINT)

    outputs = {
        "new": shop.made,
        "dev": developing.printed,
        "error": developing.printed,
        "publish": published,
        "refused": refused,
        "tail": tailed,
        "inspect": inspected,
    }
    assert [line for name in outputs for line in missing(name, outputs[name])] == []
    assert set(outputs) == set(dict(OUTPUT.findall(GUIDE.read_text())))
    assert code == 0
