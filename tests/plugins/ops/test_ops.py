"""Probes, status and metrics over HTTP, of services on the embedded broker and without one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as parse

import kafkaesk_ops
from kafkaesk_core import Application, IncomingMessage, PluginError, Retry, Status, hookimpl
from kafkaesk_core.cli import cli
from kafkaesk_ops import Collector, OpsPlugin, OpsSettings, asgi
from kafkaesk_ops.histograms import Histograms
from kafkaesk_testing import check_plugin, eventually
from kafkaesk_testing.fakes import incoming_message

# Any in this file: JSON.


async def request(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    return await send(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def send(port: int, data: bytes) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        answer = (await asyncio.wait_for(reader.read(), 20)).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def service(
    servers: Any = "embedded://", topic_prefix: str = "", **settings: Any
) -> tuple[Application, OpsPlugin]:
    ops = OpsPlugin(OpsSettings(port=0, **settings))
    app = Application(servers, topic_prefix, plugins=[ops], entry_points=False)
    return app, ops


def port_of(ops: OpsPlugin) -> int:
    assert ops.port is not None
    return ops.port


async def samples(ops: OpsPlugin) -> dict[str, Any]:
    """The samples of a scrape, by name and labels."""
    code, text = await request(port_of(ops), "/metrics")
    assert code == 200
    families = parse(text)
    return {
        f"{s.name}{dict(sorted(s.labels.items()))}": s.value for f in families for s in f.samples
    }


async def test_a_running_service_is_live_ready_and_started() -> None:
    app, ops = service()

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        pass

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: bool(app.status().groups) and app.health().is_ready, within=20)
        answers = {path: await request(port_of(ops), path) for path in ("/live", "/ready")}
        started, _ = await request(port_of(ops), "/started")
        code, status = await request(port_of(ops), "/status")
        await app.stop()
        await consuming

    assert {path: code for path, (code, _) in answers.items()} == {"/live": 200, "/ready": 200}
    assert json.loads(answers["/ready"][1])["ready"] is True
    assert (started, code) == (200, 200)
    assert json.loads(status)["groups"][0]["group"] == "billing"


async def test_a_start_that_waits_for_a_broker_is_live_and_not_ready() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        app, ops = service(f"127.0.0.1:{taken.getsockname()[1]}")
        app.configure(start_timeout=30)
        starting = asyncio.create_task(app.initialize())
        await eventually(lambda: ops.port is not None, within=10)

        codes = [(await request(port_of(ops), path))[0] for path in ("/live", "/ready", "/started")]
        _, body = await request(port_of(ops), "/ready")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    assert codes == [200, 503, 503]
    assert json.loads(body)["reasons"]
    assert ops.port is None


async def test_a_stop_is_not_ready_before_the_first_partition_is_given_up() -> None:
    app, ops = service()
    began, let_go = asyncio.Event(), asyncio.Event()

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        began.set()
        await let_go.wait()

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.raw_publish("orders", b"1")
        await asyncio.wait_for(began.wait(), 20)
        ready_before, _ = await request(port_of(ops), "/ready")
        stopping = asyncio.create_task(app.stop())
        await eventually(lambda: not app.health().is_ready, within=5)
        ready, _ = await request(port_of(ops), "/ready")
        live, _ = await request(port_of(ops), "/live")
        owned = app.status().groups[0].partitions
        let_go.set()
        await asyncio.gather(stopping, consuming)

    assert (ready_before, ready, live) == (200, 503, 200)
    assert owned


async def test_a_record_that_waits_for_its_retry_is_live() -> None:
    app, ops = service()
    app.configure(max_record_age=0.2)

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        raise Retry("later", delay=600)

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.raw_publish("orders", b"1")
        await eventually(lambda: parked(app) == 1, within=20)
        await asyncio.sleep(0.5)  # longer than max_record_age
        live, _ = await request(port_of(ops), "/live")
        found = await samples(ops)
        await app.stop()
        await consuming

    assert live == 200
    assert sum(v for k, v in found.items() if k.startswith("kafkaesk_records_parked{")) == 1


def done_by(app: Application) -> int:
    return sum(group.counts.get("done", 0) for group in app.status().groups)


def parked(app: Application) -> int:
    return sum(p.parked for group in app.status().groups for p in group.partitions)


async def test_a_handler_that_is_stuck_fails_the_live_probe() -> None:
    app, ops = service()
    app.configure(max_record_age=0.2)
    let_go = asyncio.Event()

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        await let_go.wait()

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.raw_publish("orders", b"1")
        await eventually(lambda: not app.health().is_live, within=20)
        live, body = await request(port_of(ops), "/live")
        let_go.set()
        await app.stop()
        await consuming

    assert live == 503
    assert json.loads(body)["reasons"]


async def test_a_blocked_event_loop_answers_no_probe() -> None:
    app, ops = service()

    async with app:
        port = port_of(ops)

        def ask_from_a_thread() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
                client.settimeout(0.5)
                try:
                    return client.recv(100)
                except TimeoutError:
                    return b"no answer"

        asking = asyncio.get_running_loop().run_in_executor(None, ask_from_a_thread)
        time.sleep(1)  # noqa: ASYNC251 - the fault that is tried
        assert await asking == b"no answer"


async def test_the_metrics_are_those_of_the_status() -> None:
    app, ops = service()

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        pass

    async with app:
        for _ in range(5):
            await app.raw_publish("orders", b"1")
        await app.flush()
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: done_by(app) == 5, within=20)
        found = await samples(ops)
        owned = app.status().groups[0].partitions
        await app.stop()
        await consuming
        after = await samples(ops)

    handler = "tests.plugins.ops.test_ops.test_the_metrics_are_those_of_the_status.<locals>.bill"
    done = {
        **{"application": "", "group": "billing", "handler": handler},
        **{"outcome": "done", "stream": "orders"},
    }
    assert found[f"kafkaesk_records_total{done}"] == 5
    assert found["kafkaesk_published_total{'application': '', 'outcome': 'acknowledged'}"] == 5
    assert found["kafkaesk_up{'application': ''}"] == 1
    assert sum(key.startswith("kafkaesk_consumer_lag_records{") for key in found) == len(owned)
    assert not any(key.startswith("kafkaesk_consumer_lag_records{") for key in after)


async def test_a_scrape_is_valid_in_both_formats() -> None:
    open_metrics: Any = parser
    app, ops = service(histograms=True, legacy_names=True)

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        pass

    async with app:
        await app.raw_publish("orders", b"1")
        await app.consume_for(1, seconds=20)
        _, text = await request(port_of(ops), "/metrics")
        text_open = exposition.generate_latest(ops.registry).decode()  # type: ignore[no-untyped-call]  # untyped
        opened = list(open_metrics.text_string_to_metric_families(text_open))

    names = {family.name for family in parse(text)}
    assert {"kafkaesk_build_info", "kafkaesk_records", "kafkaesk_handler_seconds"} <= names
    assert {family.name for family in opened} >= {"kafkaesk_records", "kafkaesk_up"}
    assert all(family.documentation for family in opened)
    assert 'kafkaesk_handler_seconds_count{application="",group="billing"' in text
    assert 'kafkaesk_message_age_seconds_count{application="",group="billing"} 1.0' in text
    assert 'kafkaesk_delivery_seconds_count{application="",topic="orders"} 1.0' in text


async def test_histograms_are_of_batches_too() -> None:
    app, ops = service(histograms=True)

    @app.subscribe("orders", "billing")
    async def bill(orders: list[bytes]) -> None:
        pass

    async with app:
        await app.raw_publish("orders", b"1", partition=0)
        await app.raw_publish("orders", b"2", partition=0)
        await app.consume_for(2, seconds=20)
        _, text = await request(port_of(ops), "/metrics")

    assert 'kafkaesk_message_age_seconds_count{application="",group="billing"} 2.0' in text


async def nothing(message: IncomingMessage) -> None: ...


async def test_a_message_counts_in_every_bucket_that_is_not_below_its_value() -> None:
    registry = CollectorRegistry()
    histograms = Histograms()
    registry.register(histograms)
    app = Application("embedded://", plugins=[histograms], entry_points=False)

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        pass

    now = time.time()
    for age in (-600, 150, 1500, 10**6):  # of the future, too; a slow machine adds a little to each
        await app.handle("orders", b"1", timestamp_ms=int((now - age) * 1000))
    (subscription,) = app.subscriptions
    timeless = replace(incoming_message(b"1").record, timestamp=-1)
    await histograms.wrap_consume(IncomingMessage(timeless, "orders"), nothing, subscription)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"application": "", "group": "billing", **labels})

    ages = {
        le: value("kafkaesk_message_age_seconds_bucket", le=le) for le in ("0.1", "300.0", "3600.0")
    }
    assert ages == {"0.1": 1, "300.0": 2, "3600.0": 3}
    assert value("kafkaesk_message_age_seconds_bucket", le="+Inf") == 4
    assert value("kafkaesk_message_age_seconds_count") == 4
    assert 10**6 < (value("kafkaesk_message_age_seconds_sum") or 0) < 10**6 + 3600
    assert value("kafkaesk_handler_seconds_count", handler=subscription.handler_name) == 5


@pytest.mark.parametrize("legacy_names", [False, True])
async def test_nothing_is_around_a_message_unless_histograms_are_asked_for(
    legacy_names: bool,
) -> None:
    app, _ = service(legacy_names=legacy_names)
    hooks = ("wrap_consume", "wrap_consume_batch", "wrap_publish", "published")

    async with app:
        layers = {hook: app.plugins.layers(hook) for hook in hooks}

    assert layers == {hook: [] for hook in hooks}


async def test_the_numbers_of_a_plugins_report_are_metrics() -> None:
    class Breaker:
        name = "circuit-breaker"

        @hookimpl
        def report(self, app: Any) -> Any:
            return {"open": True, "failures": {"of billing": 3}, "state": "open", "left": None}

    app, ops = service()
    app.plugins.register(Breaker())

    async with app:
        found = await samples(ops)

    assert found["kafkaesk_circuit_breaker_open{'application': ''}"] == 1
    assert found["kafkaesk_circuit_breaker_failures_of_billing{'application': ''}"] == 3
    assert not [name for name in found if "left" in name], "it is not known"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_wrong() -> None:
    """`promtool check metrics`, of the package prometheus."""
    app, ops = service(histograms=True, legacy_names=True)

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        pass

    async with app:
        await app.raw_publish("orders", b"1")
        await app.consume_for(1, seconds=20)
        _, text = await request(port_of(ops), "/metrics")
    process = await asyncio.create_subprocess_exec(
        *("promtool", "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate(text.encode())

    assert (process.returncode, said.decode()) == (0, "")


async def test_two_applications_share_a_registry_under_their_names() -> None:
    registry = CollectorRegistry()
    collector = Collector(registry)
    settings = OpsSettings(port=0, histograms=True, legacy_names=True)
    apps = []
    for name in ("shop", "store"):
        ops = OpsPlugin(settings, registry=registry, collector=collector, name=name)
        apps.append((Application("embedded://", plugins=[ops], entry_points=False), ops))

    async with apps[0][0], apps[1][0]:
        for app, _ in apps:
            await app.raw_publish("orders", b"1")
            await app.flush()
        found = await samples(apps[1][1])
        _, text = await request(port_of(apps[1][1]), "/metrics")

    for name in ("shop", "store"):
        alone, of_topic = {"application": name}, {"application": name, "topic": "orders"}
        assert found[f"kafkaesk_up{alone}"] == 1
        assert found[f"kafkaesk_delivery_seconds_count{of_topic}"] == 1
    headings = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(headings) == len(set(headings))


async def test_two_applications_of_one_name_are_refused() -> None:
    collector = Collector()
    one, other = Application("embedded://"), Application("embedded://")
    collector.watch(one, "shop")

    with pytest.raises(ValueError, match="two applications are named 'shop'"):
        collector.watch(other, "shop")


async def test_a_taken_port_stops_the_start_and_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = Application(
            "embedded://", plugins=[OpsPlugin(OpsSettings(port=port))], entry_points=False
        )

        with pytest.raises(PluginError, match=rf"127\.0\.0\.1:{port} .*KAFKAESK_OPS_PORT"):
            await app.initialize()


async def test_without_a_port_nothing_listens() -> None:
    ops = OpsPlugin()
    app = Application("embedded://", plugins=[ops], entry_points=False)

    async with app:
        assert ops.port is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /live?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /live HTTP/1.0\r\n\r\n", 200),
        (b"GET /live HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0),
    ],
)
async def test_an_odd_request_gets_its_answer(data: bytes, code: int) -> None:
    app, ops = service()

    async with app:
        try:
            got, _ = await send(port_of(ops), data)
        except (ConnectionResetError, BrokenPipeError):
            got = code  # closed while a megabyte was being sent
        again, _ = await request(port_of(ops), "/live")

    assert got in (code, 400)
    assert again == 200


async def test_a_head_request_has_no_body() -> None:
    app, ops = service()

    async with app:
        assert await request(port_of(ops), "/live", "HEAD") == (200, "")


async def test_a_probe_is_answered_while_hostile_clients_hold_all_connections() -> None:
    app, ops = service()
    hostile = [b"", b"GET /live", b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000]

    async with app:
        clients = [await asyncio.open_connection("127.0.0.1", port_of(ops)) for _ in range(200)]
        for number, (_, writer) in enumerate(clients):
            writer.write(hostile[number % 3])
        codes = [(await request(port_of(ops), "/live"))[0] for _ in range(10)]
        held = len(ops_connections(ops))
        for _, writer in clients:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for _, w in clients), return_exceptions=True)

    assert codes == [200] * 10
    assert held <= 50


async def test_silent_clients_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kafkaesk_ops.server.REQUEST_TIMEOUT", 0.5)
    app, ops = service()

    async with app:
        silent = [await asyncio.open_connection("127.0.0.1", port_of(ops)) for _ in range(200)]
        await asyncio.sleep(0.1)
        await eventually(lambda: not ops_connections(ops), within=10)
        code, _ = await request(port_of(ops), "/live")
        for _, writer in silent:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for _, w in silent), return_exceptions=True)

    assert code == 200


def ops_connections(ops: OpsPlugin) -> Any:
    assert ops._server is not None
    return ops._server._connections


async def test_the_asgi_application_answers_the_same() -> None:
    ops = OpsPlugin(OpsSettings(histograms=True))
    app = Application("embedded://", plugins=[ops], entry_points=False)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def collect(message: dict[str, Any]) -> None:
        sent.append(message)

    async with app:
        for serve in (asgi(app), asgi(app, ops.registry)):
            for path in ("/ops/live", "/ops/metrics", "/ops/nothing"):
                scope = {"type": "http", "method": "GET", "path": path, "root_path": "/ops"}
                await serve(scope, receive, collect)

    statuses = [m["status"] for m in sent if m["type"] == "http.response.start"]
    assert statuses == [200, 200, 404] * 2
    assert all(b"kafkaesk_up" in sent[index]["body"] for index in (3, 9))
    shown = [b"kafkaesk_delivery_seconds" in sent[index]["body"] for index in (3, 9)]
    assert shown == [False, True], "what the plugin measures is in its registry"


@pytest.mark.parametrize("settings", [{"port": 70000}, {"port": -1}, {"prot": 1}])
def test_wrong_settings_are_refused(settings: Any) -> None:
    app = Application("embedded://", plugin_settings={"ops": settings})

    with pytest.raises(PluginError, match=next(iter(settings))):
        app.load_plugins()


def test_the_readmes_settings_are_those_of_the_plugin() -> None:
    readme = (Path(kafkaesk_ops.__file__).parents[1] / "README.md").read_text()
    rows = re.findall(r"^\| `KAFKAESK_OPS_(\w+)` \|[^|]*\| (.*) \|$", readme, re.MULTILINE)

    assert {name.lower(): text for name, text in rows} == {
        name: field.description for name, field in OpsSettings.model_fields.items()
    }


async def test_the_readmes_metrics_are_those_of_a_scrape() -> None:
    readme = (Path(kafkaesk_ops.__file__).parents[1] / "README.md").read_text()
    missing = {"kafkaesk_kafka_action", "kafkaesk_kafka_action_time"}
    app, ops = service(histograms=True, legacy_names=True)

    async with app:
        _, text = await request(port_of(ops), "/metrics")

    shown = set(re.findall(r"`(kafkaesk_(?!ops)\w+?)(?:_total)?`", readme))
    assert missing < shown, "what cannot be had is named"
    assert shown - missing - {"kafkaesk_ops"} == {family.name for family in parse(text)}


def test_the_plugin_conforms() -> None:
    check_plugin(OpsPlugin())


# --- the command `kafkaesk status`


async def status_of(*arguments: str, **environment: str | None) -> Result:
    """Run the command in a thread: it has an event loop of its own."""
    run = CliRunner(env={"COLUMNS": "200", **environment}).invoke
    result = await asyncio.to_thread(run, cli, ["status", *arguments])
    result.stdout_bytes = re.sub(rb" +\n", b"\n", result.stdout_bytes)  # columns are filled up
    return result


async def test_the_command_shows_what_a_service_does() -> None:
    class Letters:
        name = "letters"

        @hookimpl
        def report(self) -> Any:
            return {"open": None, "dead": 1200}

    app, ops = service(topic_prefix="shop.")
    app.plugins.register(Letters())
    app.publishes("orders", "Order:1")
    app.schema("Order")({"type": "object"})

    @app.subscribe("orders", "billing", on_error="skip")
    async def bill(order: bytes) -> None:
        if b"poison" in order:
            raise LookupError("[red] no such customer")

    async with app:
        for text in ("fine", "poison", "fine"):
            await app.publish_and_wait("orders", {"text": text})
        assert await app.consume_for(3, seconds=20) == 3
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: bool(app.status().groups) and app.health().is_ready, within=20)
        port = port_of(ops)
        shown = await status_of(str(port))
        as_json = await status_of(f"http://localhost:{port}/", "--json")
        await app.pause("billing", reason="stocktaking")
        paused = await status_of(f"127.0.0.1:{port}")
        await app.stop()
        await consuming

    assert shown.exit_code == as_json.exit_code == paused.exit_code == 0
    assert f"http://127.0.0.1:{port}: running, live, ready\n" in shown.output
    assert "published: 3 acked\n" in shown.output
    assert re.search(r"billing: joined, \d+ running, 0 not committed", shown.output)
    assert re.search(r"^shop\.orders *\nPARTITION .*\n +0 +\S+ +\S+", shown.output, re.MULTILINE)
    assert "bill takes orders: 0 done\n" in shown.output  # it consumes anew
    assert "stocktaking" in paused.output
    assert "letters: open unknown, dead 1,200" in shown.output
    found = json.loads(as_json.output)
    assert (found["health"]["live"], found["status"]["state"]) == (True, "running")


@pytest.mark.parametrize("columns", [80, 120])
async def test_nothing_is_wider_than_the_terminal(columns: int) -> None:
    """Names as long as they are in practice: they do not narrow the columns of numbers."""
    topic = "eu-west-1.production.orders.placed.and-confirmed"
    handler = "shop.invoicing.handlers.send_an_invoice"
    partition = {
        **{"topic": topic, "partition": 11, "position": 12_345_678, "committed": 12_345_678},
        **{"end": 12_345_678, "lag": 345_678, "open": 1_666, "parked": 1_666},
        **{"oldest_open_age": 91.1, "is_paused": False},
    }
    error = {
        "error": "E: " + "it failed " * 20,
        "topic": topic,
        "partition": 1,
        "offset": 7,
        "at": 0,
    }
    subscription = {
        **{"handler": handler, "streams": [topic], "results": {"done": 5, "retry": 1}},
        **{"running": 1, "parked": 0, "last_error": error},
    }
    group = {
        **{"group": "billing-and-invoicing", "is_joined": True, "partitions": [partition]},
        **{"running": 1, "stuck": 0, "uncommitted": 0, "buffered_bytes": 15_360, "counts": {}},
        **{"subscriptions": [subscription], "paused": []},
    }
    reports = {"retry": {"dead": 0, handler: {"group": "billing-and-invoicing", "retried": 3}}}
    body = {"live": False, "ready": False, "state": "running", "reasons": [f"{topic}: " * 5]}
    body |= {"groups": [group], "published": {"acked": 1, "failed": 0}, "plugins": reports}

    async with answering(f"HTTP/1.0 503 Unavailable\r\n\r\n{json.dumps(body)}") as port:
        shown = (await status_of(str(port), COLUMNS=str(columns))).output

    assert max(map(len, shown.splitlines())) <= columns
    assert f"\n{topic}\n" in re.sub(" +\n", "\n", shown)
    assert re.search(r"^ +11 +12,345,678 +12,345,678 +12,345,678 +345,678 ", shown, re.MULTILINE)
    assert re.search(rf"^  {re.escape(handler)}: ?", shown, re.MULTILINE)
    assert re.search(r"^    ! last error [\d,]+ s ago", shown, re.MULTILINE)


async def test_the_command_says_what_hinders_a_service() -> None:
    class Broken:
        @hookimpl
        def health(self) -> list[str]:
            return ["[b]the printer is away[/b]"]

    app, ops = service()
    app.plugins.register(Broken())

    async with app:
        degraded = await status_of(str(port_of(ops)))

    assert degraded.exit_code == 0
    assert "! plugin 'broken': [b]the printer is away[/b]\n" in degraded.output


async def test_the_command_fails_if_the_service_is_not_live() -> None:
    body = {"live": False, "ready": False, "state": "running", "reasons": ["billing: 1 stuck"]}
    body |= Status("running").as_dict()

    async with answering(f"HTTP/1.0 503 Unavailable\r\n\r\n{json.dumps(body)}") as port:
        result = await status_of(str(port))

    assert result.exit_code == 1
    assert "running, not live, not ready\n  ! billing: 1 stuck\n" in result.output


@pytest.mark.parametrize(
    ("variables", "expected", "code"),
    [
        ({"KAFKAESK_OPS_PORT": "1"}, "http://127.0.0.1:1/live does not answer", 3),
        ({}, "has no fixed port to ask; set KAFKAESK_OPS_PORT", 2),
    ],
)
async def test_the_command_finds_the_port_of_an_application(
    variables: dict[str, str],
    expected: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = f"shop_with_port_{code}"
    (tmp_path / f"{module}.py").write_text(
        "import kafkaesk_core\napp = kafkaesk_core.Application('localhost:1')\n"
    )

    result = await status_of(f"{module}:app", **variables)

    assert expected in result.output
    assert result.exit_code == code


async def test_the_command_refuses_an_address_that_is_no_endpoint() -> None:
    for body in ("<html>", "[]", '{"state": 1'):
        async with answering(f"HTTP/1.0 200 OK\r\n\r\n{body}") as port:
            result = await status_of(str(port))

        assert result.exit_code == 2
        assert "is not an endpoint of kafkaesk-ops" in result.output


@asynccontextmanager
async def answering(text: str) -> AsyncIterator[int]:
    """A server that gives each request the same answer; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text.encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
