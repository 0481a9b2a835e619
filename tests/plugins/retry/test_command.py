"""`kafkaesk dead`: what is dead is listed, shown, replayed, dropped and exported."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from kafkaesk_core import ConsumerRecord
from kafkaesk_testing import eventually

from .conftest import Make, Service
from .test_dead_letters import HEADERS

APP = "import kafkaesk_core\napp = kafkaesk_core.Application(entry_points=False)\n"


class Command:
    """Runs `kafkaesk dead` for a service's cluster and prefix."""

    def __init__(self, folder: Path, service: Service) -> None:
        (folder / "shop.py").write_text(APP)
        self.folder = folder
        self.service = service

    def _line(self, *words: str) -> list[str]:
        servers = ",".join(self.service.app.servers or self.service.servers)
        return [
            *(sys.executable, "-m", "kafkaesk_core", "dead", words[0], "shop:app", *words[1:]),
            *("--kafka-servers", servers, "--topic-prefix", self.service.prefix),
        ]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Let it run, without its output."""
        return subprocess.Popen(
            self._line(*words),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def run(self, *words: str, code: int = 0, answer: str = "") -> str:
        """Its standard output."""
        done = await asyncio.to_thread(
            subprocess.run,
            self._line(*words),
            input=answer,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "200"},
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        self.told = done.stderr
        return done.stdout

    async def json(self, *words: str) -> Any:
        return json.loads(await self.run(*words, "--json"))


@pytest.fixture
async def shop(
    service: Make, tmp_path: Path
) -> tuple[Service, Command, Sequence[bytes], list[Any]]:
    """A service whose group "billing" fails what begins with "bad", while it is not mended."""
    one = service(attempts=1, dead_limit=0)
    one.group = f"billing-{uuid4().hex[:8]}"  # groups have no prefix
    handled: list[bytes] = []
    audited: list[ConsumerRecord] = []

    @one.app.subscribe("orders.*", one.group)
    async def bill(data: bytes) -> None:
        if data.startswith(b"bad") and not (tmp_path / "mended").exists():
            raise LookupError(f"no customer for {data.decode()}")
        handled.append(data)

    @one.app.subscribe("orders.*", f"audit-{one.group}")
    async def audit(record: ConsumerRecord) -> None:
        audited.append(record)

    return one, Command(tmp_path, one), handled, audited


async def die(one: Service, count: int) -> None:
    """Let so many records die, and those that were published before."""
    for number in range(count):
        await one.app.raw_publish(
            "orders.placed", b"bad%d" % number, key=b"k%d" % number, headers=[("bin", b"\xff")]
        )
    await one.app.flush()
    await one.start()
    await eventually(lambda: one.plugin.counts["dead"] >= count, within=30)


async def test_what_is_dead_is_listed_by_kind_of_failure(shop: Any) -> None:
    one, command, *_ = shop
    await die(one, 3)

    (kind,) = await command.json("ls")

    assert (kind["group"], kind["stream"], kind["count"]) == (one.group, "orders.placed", 3)
    assert kind["fingerprint"].startswith("LookupError@")
    table = await command.run("ls")
    assert "3 dead letters" in table
    assert "LookupError@" in table
    assert await command.json("ls", "--group", "audit") == []
    assert await command.json("ls", "--since", "0s") == []


async def test_one_is_shown_with_all_that_is_known_of_it(shop: Any) -> None:
    one, command, *_ = shop
    await die(one, 1)
    (kind,) = await command.json("ls")

    shown = await command.run("show", kind["example"])
    described = await command.json("show", kind["example"])

    assert "LookupError: no customer for bad0" in shown
    assert "Traceback" in shown
    assert base64.b64decode(described["value"]) == b"bad0"
    assert described["headers"] == [["bin", base64.b64encode(b"\xff").decode()]]
    assert "bin" not in await command.run("show", kind["example"], "--no-values")
    await command.run("show", "no/0/0", code=3)
    await command.run("show", "nonsense", code=2)


async def test_a_replay_reaches_the_group_that_failed_and_no_other(shop: Any) -> None:
    one, command, handled, audited = shop
    whole = {"key": b"\xff\0", "headers": HEADERS, "timestamp_ms": 123}
    await one.app.raw_publish("orders.placed", b"bad \0\xff", **whole)
    await die(one, 5)
    await eventually(lambda: len(audited) == 6, within=20)
    originals = {record.value: record for record in audited}
    (command.folder / "mended").touch()

    result = await command.json("replay", "--yes")

    assert (result["selected"], result["replayed"], result["left"]) == (6, 6, 0)
    await eventually(lambda: len(handled) == 6, within=30)
    assert sorted(handled) == [b"bad \0\xff", *(b"bad%d" % n for n in range(5))]
    assert len(audited) == 6, "the other group has handled nothing twice"
    for record in await one.read(f"retry.{one.group}.0"):
        original = originals[record.value]
        assert (record.key, record.timestamp) == (original.key, original.timestamp)
        *first, (of, _), (count, _), (letter, _) = record.headers
        assert tuple(first) == original.headers
        assert {of, count, letter} == {
            "kafkaesk-replay-of",
            "kafkaesk-replay-count",
            "kafkaesk-replay-letter",
        }
    assert await command.json("ls") == []
    assert (await command.json("replay", "--yes"))["replayed"] == 0


async def test_of_several_handlers_in_a_group_the_one_that_failed_gets_its_record_again(
    shop: tuple[Service, Command, list[bytes], list[ConsumerRecord]],
) -> None:
    one, command, handled, _ = shop
    others: list[bytes] = []

    @one.app.subscribe("parcels", one.group)
    async def send(data: bytes) -> None:
        others.append(data)
        if not (command.folder / "mended").exists():
            raise ValueError("no address")

    await one.app.raw_publish("parcels", b"parcel")
    await one.app.raw_publish("orders.placed", b"bad order")
    await one.app.flush()
    await one.start()
    await eventually(lambda: one.plugin.counts["dead"] == 2, within=30)
    (command.folder / "mended").touch()

    assert (await command.json("replay", "--yes"))["replayed"] == 2

    await eventually(lambda: (handled, others) == ([b"bad order"], [b"parcel"] * 2), within=30)


def _has_died(one: Service, count: int) -> bool:
    return one.plugin.counts["dead"] == count


async def test_nothing_is_done_in_a_dry_run_or_without_an_answer(shop: Any) -> None:
    one, command, *_ = shop
    await die(one, 2)

    dry = await command.json("replay", "--dry-run")
    refused = await command.run("replay", answer="n\n")
    dropped = await command.run("drop", "--dry-run")

    assert (dry["selected"], dry["replayed"]) == (2, 0)
    assert "replayed 0 of 2" in refused
    assert "dropped 0 of 2" in dropped
    assert (await command.json("ls"))[0]["count"] == 2


async def test_what_dies_again_counts_its_replays_and_stays_in_the_end(shop: Any) -> None:
    one, command, *_ = shop
    await die(one, 1)

    for replays in (1, 2):
        assert (await command.json("replay", "--yes", "--max-replays", "2"))["replayed"] == 1
        died = partial(_has_died, one, 1 + replays)
        await eventually(died, within=30)
    held = await command.json("replay", "--yes", "--max-replays", "2")

    assert (held["replayed"], held["left"]) == (0, 1)
    letters = await one.read(f"dlq.{one.group}.orders.placed")
    assert len(letters) == 3, "all in the stream of their origin"
    assert len({len(letter.headers) for letter in letters[1:]}) == 1
    assert letters[0].headers[0] == letters[2].headers[0] == ("bin", b"\xff")


async def test_what_is_dropped_is_settled_and_still_exported_with_all(shop: Any) -> None:
    one, command, *_ = shop
    await die(one, 3)

    await command.run("drop", "--yes", "--limit", "2")

    assert (await command.json("ls"))[0]["count"] == 1
    assert len((await command.run("export")).splitlines()) == 1
    exported = [json.loads(line) for line in (await command.run("export", "--all")).splitlines()]
    assert sorted(base64.b64decode(one["value"]) for one in exported) == [b"bad0", b"bad1", b"bad2"]


async def test_an_interrupted_replay_goes_on_without_sending_anything_twice(shop: Any) -> None:
    """As it stands after a kill between the acknowledgement of a record and its mark."""
    one, command, handled, _ = shop
    await die(one, 4)
    (command.folder / "mended").touch()
    first = (await command.json("show", (await command.json("ls"))[0]["example"]))["id"]
    waiting, state = f"{one.prefix}retry.{one.group}.0", f"{one.prefix}dlq-state.{one.group}"
    await one.app.ensure_topic(state, configs={"cleanup.policy": "compact"})
    producer = AIOKafkaProducer(bootstrap_servers=list(one.app.servers))
    await producer.start()
    ends = {"ends": [[waiting, n, 0] for n in range(4)]}
    await producer.send_and_wait(state, json.dumps(ends).encode(), b"run")
    letter = ("kafkaesk-replay-letter", first.encode())
    await producer.send_and_wait(waiting, b"sent before", headers=[letter])
    for foreign in (b"no/place", b"\xff", f"{letter}/0/{10**30}".encode(), None):
        headers = [("kafkaesk-replay-letter", foreign)]
        await producer.send_and_wait(waiting, b"of somebody else", headers=headers)
    await producer.stop()

    result = await command.json("replay", "--yes")

    assert (result["recovered"], result["replayed"]) == (1, 3)
    await eventually(lambda: len(handled) == 8, within=30)
    assert (await command.json("replay", "--yes"))["replayed"] == 0


async def test_a_selection_looks_into_values(shop: Any) -> None:
    one, command, *_ = shop
    topic = f"{one.prefix}dlq.{one.group}.orders.placed"
    await one.app.initialize()
    await one.app.ensure_topic(topic)
    producer = AIOKafkaProducer(bootstrap_servers=list(one.servers))
    await producer.start()
    for number in (6, 7):
        headers = [
            ("__dlq.errors.topic", f"{one.prefix}orders.placed".encode()),
            ("__dlq.errors.partition", b"0"),
            ("__dlq.errors.offset", b"%d" % number),
            ("__dlq.errors.group", one.group.encode()),
        ]
        value = json.dumps({"data": {"number": number}}).encode()
        await producer.send_and_wait(topic, value, headers=headers)
    await producer.send_and_wait(topic, b"no letter")
    await producer.stop()

    (kind,) = await command.json("ls", "--where", "/data/number=7")

    assert kind["count"] == 1
    assert "1 records of" in command.told


def test_the_commands_module_loads_no_client_of_kafka() -> None:
    program = (
        "import sys; from kafkaesk_retry.dead.command import dead; "
        "print([m for m in ('aiokafka', 'rich', 'pydantic') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


LOCAL = """
from kafkaesk_core import Application, Subscriber

app = Application(entry_points=False)

@app.subscribe("orders.*", "GROUP")
async def bill(data: bytes, subscriber: Subscriber) -> None:
    if data != b"bad1":
        raise LookupError(f"still no customer for {data.decode()}")
    print("billed", subscriber.message.offset, dict(subscriber.message.headers))
"""


async def test_a_local_replay_calls_the_handlers_here_and_changes_nothing(shop: Any) -> None:
    one, command, *_ = shop
    await die(one, 2)
    (command.folder / "shop.py").write_text(LOCAL.replace("GROUP", one.group))

    told = await command.run("replay", "--local", code=1)

    assert "billed" in told
    assert "'bin': b'\\xff'" in told, "and nothing of the plugin's own"
    assert "stop: LookupError: still no customer for bad0" in told
    assert "handled 1 of 2 dead letters here, and sent none" in told
    assert (await command.json("ls"))[0]["count"] == 2
    (command.folder / "shop.py").write_text(APP)


async def test_a_replay_that_is_killed_goes_on_and_what_arrives_meanwhile_stays(
    shop: tuple[Service, Command, list[bytes], list[ConsumerRecord]],
) -> None:
    one, command, handled, _ = shop
    await die(one, 6)
    (command.folder / "mended").touch()
    first = command.start("replay", "--yes", "--rate", "2")
    await eventually(lambda: len(handled) >= 2, within=40)
    first.kill()
    await asyncio.to_thread(first.wait)

    going_on = asyncio.create_task(command.json("replay", "--yes", "--rate", "2"))
    await eventually(lambda: len(handled) >= 4, within=40)
    letters = await one.read(f"dlq.{one.group}.orders.placed")
    producer = AIOKafkaProducer(bootstrap_servers=list(one.servers))
    await producer.start()
    await producer.send_and_wait(letters[0].topic, b"later", headers=list(letters[0].headers))
    await producer.stop()
    result = await going_on

    await eventually(lambda: len(handled) >= 6, within=40)
    assert sorted(handled) == [b"bad%d" % n for n in range(6)], "each once"
    assert result["selected"] == result["replayed"] < 6
    (kind,) = await command.json("ls")
    assert kind["count"] == 1
