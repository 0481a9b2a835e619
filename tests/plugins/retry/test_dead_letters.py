"""Records that fail for good become dead letters: what is in them, and when they are written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafkaesk_core import BatchFailure, ConsumerRecord, Retry, Skip, Subscriber
from kafkaesk_retry import retries
from kafkaesk_testing import eventually

from .conftest import Make

BINARY = [("bin", bytes(range(256))), ("empty", b""), ("null", None), ("twice", b"1")]
HEADERS = [*BINARY, ("twice", b"2"), *[(f"h{n}", str(n).encode()) for n in range(95)]]


def errors_of(record: Any) -> dict[str, str]:
    """The headers that the plugin added."""
    own = ("__dlq.errors.", "kafkaesk-")
    return {name: value.decode() for name, value in record.headers if name.startswith(own)}


async def test_a_record_that_fails_for_good_is_kept_byte_for_byte(service: Make) -> None:
    one = service()

    @one.app.subscribe("orders.*", "billing")
    async def bill(data: bytes) -> None:
        if data == b"\x00poison":
            raise LookupError("no such customer")

    await one.app.raw_publish("orders.placed", b"fine")
    sent = await (
        await one.app.raw_publish(
            "orders.placed", b"\x00poison", key=b"\xff", headers=HEADERS, timestamp_ms=123
        )
    )
    await one.app.flush()
    await one.start()

    stream = "dlq.billing.orders.placed"
    await eventually(lambda: one.plugin.counts["dead"] == 1, within=20)
    (dead,) = await one.read(stream)

    assert (dead.value, dead.key, dead.timestamp) == (b"\x00poison", b"\xff", 123)
    assert dead.partition == sent.partition
    assert list(dead.headers[: len(HEADERS)]) == HEADERS
    added = errors_of(dead)
    assert added.pop("kafkaesk-dlq-stacktrace").endswith("LookupError: no such customer\n")
    assert int(added.pop("kafkaesk-dlq-failed-at")) > 123
    assert added == {
        "__dlq.errors.topic": sent.topic,
        "__dlq.errors.partition": str(sent.partition),
        "__dlq.errors.offset": str(sent.offset),
        "__dlq.errors.group": "billing",
        "__dlq.errors.delivery.count": "3",
        "__dlq.errors.message": "no such customer",
        "kafkaesk-dlq-exception": "LookupError",
        "kafkaesk-dlq-fingerprint": f"LookupError@{bill.__module__}.{bill.__qualname__}",
        "kafkaesk-dlq-handler": f"{bill.__module__}.{bill.__qualname__}",
    }


async def test_tombstones_null_keys_and_undecodable_bytes_die_alike(service: Make) -> None:
    one = service()

    @one.app.subscribe("in", "g")
    async def handle(data: dict[str, Any]) -> None:
        raise ValueError("never")

    await one.app.raw_publish("in", None, key=b"tombstone")
    await one.app.raw_publish("in", b"not json")
    await one.app.raw_publish("in", b"{}", key=None)
    await one.app.flush()
    await one.start()

    await eventually(lambda: one.plugin.counts["dead"] == 3, within=20)
    dead = await one.read("dlq.g.in")

    assert {(record.key, record.value) for record in dead} == {
        (b"tombstone", None),
        (None, b"not json"),
        (None, b"{}"),
    }


async def test_own_headers_do_not_grow_from_hop_to_hop(service: Make) -> None:
    one = service(attempts=1)
    hops = ["in", *(f"hop{n}" for n in range(5))]

    for number, stream in enumerate(hops[:-1]):

        async def handle(data: bytes, subscriber: Subscriber) -> None:
            raise ValueError("always")

        one.app.subscribe(stream, f"g{number}")(handle)

        async def carry(record: ConsumerRecord, _next: str = hops[number + 1]) -> None:
            await one.app.raw_publish(_next, record.value, record.key, record.headers)

        one.app.subscribe_to_topics([f"dlq.g{number}.{stream}"], f"carry{number}")(carry)

    await one.app.raw_publish("in", b"x", headers=HEADERS)
    await one.start()

    await eventually(lambda: one.plugin.counts["dead"] == 5, within=60)
    counts = []
    for number, stream in enumerate(hops[:-1]):
        (dead,) = await one.read(f"dlq.g{number}.{stream}")
        names = [name for name, _ in dead.headers if name.startswith(("__dlq.", "kafkaesk-"))]
        assert len(names) == len(set(names))
        assert list(dead.headers[: len(HEADERS)]) == HEADERS
        counts.append(len(dead.headers))
    assert len(set(counts)) == 1


async def test_the_topics_are_there_before_anything_fails(service: Make) -> None:
    one = service()
    one.app.subscribe("in", "g")(accept)

    await one.start()

    assert await one.read("dlq.g.in") == []


async def accept(data: bytes) -> None:
    """Handle it."""


async def test_a_handler_of_a_dead_letter_stream_writes_none_itself(service: Make) -> None:
    one = service(attempts=1)
    seen = []

    @one.app.subscribe("in", "g")
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    @one.app.subscribe_to_topics(["dlq.g.in"], "undertakers", on_error="skip")
    async def bury(data: bytes) -> None:
        seen.append(data)
        raise ValueError("that too")

    await one.app.raw_publish("in", b"x")
    await one.start()

    await eventually(lambda: seen == [b"x"], within=30)
    await eventually(lambda: status(one, "undertakers").get("skip") == 1, within=10)
    assert one.plugin.counts["dead"] == 1


async def test_no_pattern_takes_the_streams_of_the_plugin(service: Make) -> None:
    one, taken = service(), dict[str, int]()

    for number, pattern in enumerate(("*", "in*", "*.in", "[a-z]*")):

        async def handle(data: bytes, subscriber: Subscriber) -> None:
            taken[subscriber.message.stream] = taken.get(subscriber.message.stream, 0) + 1

        one.app.subscribe(pattern, f"{one.prefix}{number}")(handle)
    own = [f"{kind}.{one.prefix}0.in" for kind in ("dlq", "retry", "dlq-state")]
    for stream in ("in", "shop.in", *own):
        await one.app.raw_publish(stream, b"x")
    await one.app.flush()
    await one.start()

    await eventually(lambda: taken == {"in": 3, "shop.in": 3}, within=20)
    partitions = [one for group in one.app.status().groups for one in group.partitions]
    read = {place.topic.removeprefix(one.prefix) for place in partitions}
    assert read == {"in", "shop.in", *(f"retry.{one.prefix}{number}.0" for number in range(4))}


def status(one: Any, group: str) -> dict[str, int]:
    """The counts of a group."""
    return next((g.counts for g in one.app.status().groups if g.group == group), {})


async def test_what_a_handler_decides_itself_holds(service: Make) -> None:
    one = service()
    attempts: list[bytes] = []

    @one.app.subscribe("in", "g")
    async def handle(data: bytes) -> None:
        attempts.append(data)
        if data == b"skip":
            raise Skip("not mine")
        if len(attempts) < 8:
            raise Retry(delay=0)

    await one.app.raw_publish("in", b"skip")
    await one.app.raw_publish("in", b"retry")
    await one.start()

    await eventually(lambda: status(one, "g").get("done") == 1, within=20)
    assert one.plugin.counts["dead"] == 0


@pytest.mark.parametrize("on_error", ["skip", lambda error, message: Skip("mine")])
async def test_a_subscription_with_an_answer_of_its_own_keeps_it(
    service: Make, on_error: Any
) -> None:
    one = service()
    calls = []

    @one.app.subscribe("in", "g", on_error=on_error)
    async def handle(data: bytes) -> None:
        calls.append(data)
        raise ValueError("always")

    await one.app.raw_publish("in", b"x")
    await one.start()

    await eventually(lambda: status(one, "g").get("skip") == 1, within=20)
    assert (len(calls), one.plugin.counts["dead"]) == (1, 0)


async def test_a_handler_may_choose_for_itself(service: Make) -> None:
    one = service(attempts=5)
    calls = []

    @one.app.subscribe("in", "g", on_error="skip")
    @retries(attempts=2, dead_letter=False)
    async def handle(data: bytes) -> None:
        calls.append(data)
        raise ValueError("always")

    await one.app.raw_publish("in", b"x")
    await one.start()

    await eventually(lambda: status(one, "g").get("skip") == 1, within=20)
    assert (len(calls), one.plugin.counts["dead"]) == (2, 0)


async def test_a_batch_of_500_with_3_poison_records_costs_few_calls(service: Make) -> None:
    one = service(attempts=3)
    calls: list[int] = []
    done: list[bytes] = []
    poison = {b"17", b"250", b"499"}

    @one.app.subscribe("in", "g", batch_size=500, batch_timeout=2)
    async def handle(data: list[bytes]) -> None:
        calls.append(len(data))
        if poison.intersection(data):
            raise ValueError("one of them")
        done.extend(data)

    for number in range(500):
        await one.app.raw_publish("in", str(number).encode(), partition=0)
    await one.app.flush()
    await one.start()

    await eventually(lambda: one.plugin.counts["dead"] == 3, within=30)
    await eventually(lambda: status(one, "g").get("done") == 500, within=10)
    assert {record.value for record in await one.read("dlq.g.in")} == poison
    assert done == [str(n).encode() for n in range(500) if str(n).encode() not in poison]
    assert len(calls) <= 40, calls


async def test_a_batch_failure_names_who_dies(service: Make) -> None:
    one = service(attempts=2)
    seen: list[bytes] = []

    @one.app.subscribe("in", "g", batch_timeout=1)
    async def handle(data: list[bytes]) -> None:
        seen.extend(data)
        failed = {n: ValueError("bad") for n, one in enumerate(data) if one == b"bad"}
        if failed:
            raise BatchFailure(failed)

    for value in (b"a", b"bad", b"b"):
        await one.app.raw_publish("in", value, partition=1)
    await one.app.flush()
    await one.start()

    await eventually(lambda: one.plugin.counts["dead"] == 1, within=20)
    assert sorted(seen) == [b"a", b"b", b"bad", b"bad"]


async def test_while_the_handler_is_shut_down_nothing_dies(service: Make) -> None:
    one = service(attempts=1)
    begun = asyncio.Event()

    @one.app.subscribe("in", "g", drain_timeout=0.1)
    async def handle(data: bytes) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise RuntimeError("the pool is closed") from None

    await one.app.raw_publish("in", b"x")
    await one.start()
    await asyncio.wait_for(begun.wait(), 20)
    await one.app.stop()

    assert one.plugin.counts["dead"] == 0
    assert await one.read("dlq.g.in") == []
