"""What the documents show works: code blocks, examples and commands."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kafkaesk_testing.properties import free_ports
from tests.programs import Program

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"<!-- run: (\S+\.py)(?:, prints: ([^\n]+))? -->\n```python\n(.*?)```", re.DOTALL
)
OUTPUT = re.compile(r"<!-- output of: (\S+) -->\n```text\n(.*?)```", re.DOTALL)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(document: str) -> dict[str, str]:
    """The code that a document shows, by the name of its file."""
    return {name: code for name, _, code in BLOCK.findall((ROOT / document).read_text())}


def printed(document: str) -> dict[str, str]:
    """What the document says that some of it prints."""
    found = BLOCK.findall((ROOT / document).read_text())
    return {name: text for name, text, _ in found if text}


class Service(Program):
    """An application that runs with `kafkaesk` on the embedded broker."""

    def __init__(self, app: str, folder: Path, output: Path, **environment: str) -> None:
        arguments = ("-m", "kafkaesk_core", app, "--kafka-servers", "embedded://")
        super().__init__(
            sys.executable, *arguments, folder=folder, output=output, environment=environment
        )

    def __enter__(self) -> Service:
        return self

    def stop(self) -> int:
        """Stop it as Ctrl-C does, and return its exit code."""
        with self:
            return self.end(signal.SIGINT)


@pytest.mark.parametrize("name", printed("README.md"))
def test_an_example_of_the_readme_runs_and_prints_what_it_says(name: str, tmp_path: Path) -> None:
    for file, code in blocks("README.md").items():
        (tmp_path / file).write_text(code)

    service = Service(f"{name.removesuffix('.py')}:app", tmp_path, tmp_path / "output")
    service.wait_for(printed("README.md")[name])

    assert service.stop() == 0


def test_every_section_of_use_it_has_an_example() -> None:
    use_it = (ROOT / "README.md").read_text().partition("## Use it")[2].partition("\n## ")[0]

    sections = use_it.split("\n### ")[1:]

    *with_examples, whole_services = sections
    assert len(with_examples) == 8
    assert [section for section in with_examples if not BLOCK.search(section)] == []
    assert "](examples/" in whole_services


def test_the_readmes_plugin_acts_in_the_readmes_service(tmp_path: Path) -> None:
    found = blocks("README.md")
    shop = found["shop.py"].replace("Application()", "Application(plugins=[audit.Audit()])")
    (tmp_path / "audit.py").write_text(found["audit.py"])
    (tmp_path / "shop.py").write_text("import audit\n" + shop)

    service = Service("shop:app", tmp_path, tmp_path / "output")
    service.wait_for("handling orders.placed[")

    assert service.stop() == 0


def test_every_python_block_of_the_readme_is_run() -> None:
    readme = (ROOT / "README.md").read_text()

    assert readme.count("```python") == len(blocks("README.md"))
    assert set(blocks("README.md")) - {"audit.py"} == set(printed("README.md"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(example: Path) -> None:
    text = example.read_text()

    assert len(text.splitlines()) <= 60
    assert f"kafkaesk examples.{example.stem}:app" in text


def test_the_orders_example_shows_orders_published_consumed_and_committed(tmp_path: Path) -> None:
    everything = {"KAFKAESK_RETRY_ENABLED": "true"}  # which the other tests switch off
    service = Service("examples.orders:app", ROOT, tmp_path / "output", **everything)

    for text in ("published order 2", "consumed  order 2", "committed orders.placed["):
        service.wait_for(text)

    assert service.stop() == 0
    (shown,) = (text for app, text in OUTPUT.findall((ROOT / "README.md").read_text()))
    real = [without_numbers(line) for line in service.output.read_text().splitlines()]
    for line in shown.splitlines():
        assert any(each.endswith(without_numbers(line)) for each in real), line


def test_the_retry_example_shows_a_record_fail_wait_die_and_come_back(tmp_path: Path) -> None:
    with_retries = {"KAFKAESK_RETRY_ENABLED": "true"}
    service = Service("examples.retry:app", ROOT, tmp_path / "output", **with_retries)

    for text in (
        "LookupError: no customer 7 (attempt 1 of 3)",
        "LookupError: no customer 7 (attempt 2 of 3)",
        "attempt 3) is the dead letter dlq.billing.orders.placed/",
        "dead: no customer 7",
        "order 1 is billed",
    ):
        service.wait_for(text)

    assert service.stop() == 0


def test_the_outage_example_ends_with_each_order_billed_or_dead(tmp_path: Path) -> None:
    quick = {"KAFKAESK_RETRY_ENABLED": "true", "KAFKAESK_RETRY_PROBE": "0.5", "OUTAGE": "1"}
    service = Service("examples.outage:app", ROOT, tmp_path / "output", **quick)

    service.wait_for("orders are billed")

    assert service.process.wait(30) == 0
    assert "retried" in service.printed


def without_numbers(line: str) -> str:
    """A line whose numbers, and ids of 32 hexadecimal digits, may differ from run to run."""
    return re.sub(r"\b[0-9a-f]{32}\b|\d+", "0", line)


@pytest.mark.parametrize(
    ("example", "text"),
    [
        ("custom_hook", "took"),
        ("batches", "stored 50 orders at once, 249 in all"),
        ("failures", "attempt 3); skipped: ConnectionError: no answer from the printer"),
        ("headers", "invoice of order 1 belongs to tenant blue"),
    ],
)
def test_an_example_shows_what_it_is_for(example: str, text: str, tmp_path: Path) -> None:
    service = Service(f"examples.{example}:app", ROOT, tmp_path / "output")

    service.wait_for(text)

    assert service.stop() == 0


def test_the_http_service_publishes_consumes_and_reports_its_health(tmp_path: Path) -> None:
    port, environment = free_ports(1)[0], {"KAFKAESK_KAFKA_SERVERS": "embedded://"}
    command = (sys.executable, "-m", "uvicorn", "examples.http_service:service", "--port")
    order = {"number": 7, "article": "a coffee"}

    with Program(
        *command,
        str(port),
        folder=ROOT,
        output=tmp_path / "output",
        environment=environment,
    ) as service:
        service.wait_for("Uvicorn running on")  # it binds the port after the lifespan's start
        placed = request(port, "/orders", order)
        billed = until_found(port, "/orders/7")
        unknown = request(port, "/orders/8")
        health = request(port, "/health")
        exit_code = service.end(signal.SIGTERM)

    assert placed == (202, {"number": 7})
    assert billed == (200, order)
    assert unknown == (404, {"detail": "order 8 is not billed yet"})
    assert health[0] == 200
    assert exit_code in (0, -signal.SIGTERM)
    assert "Application shutdown complete" in (tmp_path / "output").read_text()


def request(port: int, path: str, body: object = None) -> tuple[int, Any]:
    """Status and body of an answer; a request with a body is a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def until_found(port: int, path: str) -> tuple[int, Any]:
    """Ask until the answer is not 404: the order is handled after it was placed."""
    deadline = time.monotonic() + 30
    while (answer := request(port, path))[0] == 404 and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def test_the_tested_service_passes_its_tests() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "examples/tested"]
    environment = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST_")}

    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr
