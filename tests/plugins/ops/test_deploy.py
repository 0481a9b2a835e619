"""`kafkaesk deploy`: its files are valid, agree with the settings, and ask for real metrics."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner, Result
from jsonschema_rs import validator_for
from prometheus_client import CollectorRegistry, generate_latest

from kafkaesk_core import Application
from kafkaesk_core.cli import cli
from kafkaesk_ops import Collector
from kafkaesk_testing import eventually

ROOT = Path(__file__).parents[3]
SHOP = """
import kafkaesk_core
app = kafkaesk_core.Application(
    "kafka-1:9092,kafka-2:9092", "shop.", entry_points=False, partitions=6, shutdown_timeout=40
)
app.schema("Order", streams=["orders.placed"], partitions=12)({"type": "object"})
async def handle(data: bytes) -> None: ...
app.subscribe("orders.*", "billing")(handle)
app.subscribe_to_topics(["stock", "returns"], "warehouse")(handle)
"""


@pytest.fixture(scope="module", autouse=True)
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "deployed_shop.py").write_text(SHOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


def deploy(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["deploy", *arguments])


def manifests(*options: str) -> dict[str, Any]:
    result = deploy("k8s", "deployed_shop:app", *options)
    assert result.exit_code == 0, result.output
    return {each["kind"]: each for each in yaml.safe_load_all(result.stdout)}


def test_the_deployment_satisfies_the_schema_of_kubernetes() -> None:
    kubernetes_validate.validate(manifests()["Deployment"], "1.33", strict=True)


def closed(**properties: Any) -> dict[str, Any]:
    """An object with these properties, all of them there, and no other."""
    names = list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT}
COUNT = {"type": "integer", "minimum": 0}
DURATION = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
SPECS = {
    "ScaledObject": closed(
        scaleTargetRef=closed(name=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        cooldownPeriod=COUNT,
        triggers=list_of(closed(type={"const": "kafka"}, metadata=TEXTS)),  # texts, booleans too
    ),
    "PodMonitor": closed(
        selector=closed(matchLabels=TEXTS),
        podMetricsEndpoints=list_of(closed(port=TEXT, path=TEXT, interval=DURATION)),
    ),
    "PrometheusRule": closed(
        groups=list_of(
            closed(
                name=TEXT,
                rules=list_of(
                    closed(
                        **{"alert": TEXT, "expr": TEXT, "for": DURATION},
                        labels=TEXTS,
                        annotations=TEXTS,
                    )
                ),
            )
        )
    ),
}
"""The fields that are used, by hand: no package carries the schemas of these operators as files."""


@pytest.mark.parametrize("kind", SPECS)
def test_a_manifest_has_the_fields_of_its_operator(kind: str) -> None:
    validator_for(SPECS[kind]).validate(manifests()[kind]["spec"])


def test_the_deployment_is_made_from_the_settings() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["terminationGracePeriodSeconds"] == 45  # 5 above shutdown_timeout
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["args"] == ["deployed_shop:app"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["KAFKAESK_KAFKA_SERVERS"] == "kafka-1:9092,kafka-2:9092"
    assert environment["KAFKAESK_TOPIC_PREFIX"] == "shop."
    probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    assert [each["httpGet"]["path"] for each in probes.values()] == ["/started", "/live", "/ready"]


def test_a_service_is_scaled_by_the_lag_of_each_group_up_to_its_partitions() -> None:
    spec = manifests()["ScaledObject"]["spec"]

    assert spec["maxReplicaCount"] == 12
    triggers = [each["metadata"] for each in spec["triggers"]]
    taken = [
        (each["consumerGroup"], each.get("topic"), each.get("limitToPartitionsWithLag"))
        for each in triggers
    ]
    assert taken == [
        ("billing", None, None),
        ("warehouse", "shop.stock", "true"),
        ("warehouse", "shop.returns", "true"),
    ]
    assert {each["excludePersistentLag"] for each in triggers} == {"true"}


@pytest.mark.parametrize("what", ["k8s", "compose", "dockerfile"])
def test_a_grace_that_loses_work_is_refused_with_both_values(what: str, tmp_path: Path) -> None:
    result = deploy(what, "deployed_shop:app", "--grace", "40", "--out", str(tmp_path))

    assert result.exit_code == 2
    assert "a grace of 40 s is not above shutdown_timeout 40 s" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("k8s", "deployed_shop:app", "--name", "The_Shop"), "'The_Shop' cannot be a name"),
        (("compose", "deployed_shop:app"), "compose are 6 files; say where to write them"),
        (("grafana", "deployed_shop:app", "--out", "/proc/none"), "cannot be written"),
        (("k8s", "there_is_none:app"), "there_is_none"),
    ],
)
def test_what_cannot_be_written_is_told(arguments: tuple[str, ...], told: str) -> None:
    result = deploy(*arguments)

    assert result.exit_code == 2
    assert told in result.output


# --- alerts and the dashboard


def expressions(folder: Path) -> list[str]:
    """All queries of the alerts and of the dashboard."""
    rules = yaml.safe_load((folder / "rules.yml").read_text())["groups"]
    alerts = [rule["expr"] for group in rules for rule in group["rules"]]
    assert len(alerts) == 6
    dashboard = json.loads((folder / "grafana" / "kafkaesk.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    return alerts + [target["expr"] for target in targets]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose")
    result = deploy("compose", "deployed_shop:app", "--out", str(folder))
    assert result.exit_code == 0, result.output
    return folder


async def test_every_query_names_a_metric_that_a_scrape_has(written: Path) -> None:
    app, registry = Application("embedded://", entry_points=False), CollectorRegistry()
    Collector(registry).watch(app)

    @app.subscribe("orders", "billing")
    async def bill(data: bytes) -> None: ...

    async with app:
        await app.raw_publish("orders", b"one")
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(
            lambda: any(p.lag == 0 for g in app.status().groups for p in g.partitions), within=20
        )
        scraped = generate_latest(registry).decode()
        await app.stop()
        await consuming

    samples = set(re.findall(r"^(\w+)\{", scraped, re.MULTILINE))
    named = {name for query in expressions(written) for name in re.findall(r"kafkaesk_\w+", query)}
    assert named - samples - {"kafkaesk_oldest_record_seconds"} == set()  # only of open records
    assert "# TYPE kafkaesk_oldest_record_seconds" in scraped


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_alerts_and_the_configuration(written: Path) -> None:
    for command in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        checked = subprocess.run(
            ["promtool", "check", *command], cwd=written, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_compose_file_mounts_the_files_that_are_written(written: Path) -> None:
    compose = yaml.safe_load((written / "compose.yml").read_text())
    services = compose["services"]
    mounted = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
    }

    assert set(services) == {"kafka", "deployed-shop", "prometheus", "grafana"}
    assert all((written / path).exists() for path in mounted)
    assert services["deployed-shop"]["stop_grace_period"] == "45s"
    prometheus = yaml.safe_load((written / "prometheus.yml").read_text())
    (scraped,) = prometheus["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["deployed-shop:8080"]}]


def test_the_image_runs_the_application_as_somebody_without_rights() -> None:
    result = deploy("dockerfile", "deployed_shop:app", "--port", "9000")

    lines = result.stdout.splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert "USER 10001" in lines
    assert lines[-2:] == ['ENTRYPOINT ["kafkaesk"]', 'CMD ["deployed_shop:app"]']
    assert "KAFKAESK_OPS_PORT=9000" in result.stdout


def test_the_example_is_what_the_command_writes(tmp_path: Path) -> None:
    where = ("--build", "../..", "--dockerfile", "examples/observability/Dockerfile")
    arguments = ("--name", "orders", *where, "--out", str(tmp_path))
    result = deploy("compose", "examples.orders:app", *arguments)
    assert result.exit_code == 0, result.output
    example = ROOT / "examples" / "observability"

    written = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file()}

    for name, path in written.items():
        assert (example / name).read_text() == path.read_text(), name
