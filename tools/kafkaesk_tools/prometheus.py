"""A Prometheus that scrapes services on this machine, and the queries of the dashboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from kafkaesk_testing.properties import free_ports

__all__ = ["EXAMPLE", "Panel", "Prometheus", "Series", "alert_queries", "find_panels"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "observability"
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Series:
    """Values of one time series, with their times in seconds since 1970."""

    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard: its queries, each with the template of its legend."""

    title: str
    kind: str
    unit: str
    place: Mapping[str, int]
    queries: Sequence[tuple[str, str]]


def find_panels(job: str) -> list[Panel]:
    """Return the panels of the example's dashboard, for one job."""
    dashboard = json.loads((EXAMPLE / "grafana" / "kafkaesk.json").read_text())
    return [
        Panel(
            each["title"],
            each["type"],
            each["fieldConfig"]["defaults"]["unit"],
            each["gridPos"],
            [
                (target["expr"].replace("$job", job), target["legendFormat"])
                for target in each["targets"]
            ],
        )
        for each in dashboard["panels"]
    ]


def alert_queries() -> dict[str, str]:
    """Return the query of each of the example's alerts."""
    groups = yaml.safe_load((EXAMPLE / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


class Prometheus:
    """A Prometheus process with the example's configuration and rules; a context manager.

    `targets` are addresses as host:port. `folder` is for its configuration and its data.
    """

    def __init__(self, targets: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self._targets = list(targets)
        self._address = f"127.0.0.1:{free_ports(1)[0]}"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_installed() -> bool:
        """Return whether Prometheus is on this machine; Debian's package prometheus has it."""
        return shutil.which("prometheus") is not None

    def __enter__(self) -> Self:
        """Start the process, and return when it answers.

        Raises:
            RuntimeError: the process ended or did not answer in time; the error has the end of its
                log.
        """
        config = yaml.safe_load((EXAMPLE / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": self._targets}]
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(EXAMPLE / "rules.yml", self._folder / "rules.yml")
        log = self._folder / "prometheus.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self._address}",
                ],
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                raise RuntimeError(f"prometheus does not answer: {log.read_text()[-500:]}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def query(self, expression: str) -> list[Series]:
        """Return the current value of an expression.

        Raises:
            ValueError: Prometheus refuses the expression.
        """
        found = self._ask("query", query=expression)
        return [Series(each["metric"], *_columns([each["value"]])) for each in found]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Return the values of an expression from `start` to `end`, every `step` seconds.

        Raises:
            ValueError: Prometheus refuses the expression.
        """
        found = self._ask("query_range", query=expression, start=start, end=end, step=step)
        return [Series(each["metric"], *_columns(each["values"])) for each in found]

    def alerts(self) -> dict[str, str]:
        """Return the state of each alert in the rules: inactive, pending or firing."""
        groups = self._get("/api/v1/rules")["data"]["groups"]
        return {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    # Any below: Prometheus's answers are JSON.
    def _ask(self, kind: str, **parameters: object) -> list[Any]:
        query = urllib.parse.urlencode(parameters)
        return list(self._get(f"/api/v1/{kind}?{query}")["data"]["result"])

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(f"{path}: {error.read().decode()}") from error


def _columns(pairs: Sequence[tuple[float, str]]) -> tuple[list[float], list[float]]:
    return [float(at) for at, _ in pairs], [float(value) for _, value in pairs]
