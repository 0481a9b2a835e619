"""Wrong arguments are refused at the earliest moment, with the thing, the value and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    Defer,
    IncomingMessage,
    Retry,
    Router,
    hookimpl,
)
from kafkaesk_core.message import check_address, check_many, check_options, copy_headers


class Content(BaseModel):
    foo: str


wrong: Any = Application  # its arguments are wrong on purpose


async def handle(data: bytes) -> None: ...


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda: wrong(5), r'kafka_servers must be "host:port" or a list of them, got 5'),
        (lambda: wrong("a:1", 5), "topic_prefix must be a valid string, got 5"),
        (lambda: wrong("a:1", kafka_settings=[1]), "kafka_settings must be a valid dictionary$"),
        (
            lambda: wrong("a:1", replication_factor=0),
            "replication_factor must be greater than 0, got 0",
        ),
        (lambda: wrong("a:1", partitions=True), "partitions must be a number, got True"),
        (lambda: wrong("a:1", start_timeout=float("inf")), "start_timeout must be a finite num"),
        (lambda: wrong("a:1", auto_commit="perhaps"), "auto_commit must be a valid boolean, got"),
        (lambda: wrong("a:1", "x["), r"topic_prefix cannot begin a topic; .* got 'x\['"),
        (lambda: wrong("a:1", "x" * 249), "topic_prefix cannot begin a topic"),
        (lambda: wrong(["a:1", 5]), r"list of them, got \['a:1', 5\]"),
        (lambda: wrong("a:1", partition=3), "no setting 'partition'; did you mean 'part"),
        (lambda: wrong("a:1").configure(drain=3), "no setting 'drain'"),
        (lambda: wrong().schema("X")(5), "'X': a JSON Schema document is a dict, not int"),
        (lambda: wrong().schema("X")(int), "'X': .*int.* is not a pydantic model"),
        (lambda: wrong().schema("X:1")(Content), "'X:1': .* without ':'"),
        (
            lambda: wrong().schema("X", version=0)(Content),
            "'X': version must be 1 or greater, got 0",
        ),
        (
            lambda: wrong().schema("X", retention=-1)(Content),
            "'X': retention must be 1 or greater, or None, got -1",
        ),
        (
            lambda: wrong().schema("X", streams="abc")(Content),
            "'X': streams must be a list of names, got 'abc'",
        ),
        (lambda: wrong().schema()({"type": "object"}), "the id must be a name"),
        (lambda: wrong().subscribe(5)(handle), "handle: is subscribed to 5"),
        (lambda: wrong().subscribe("a")(Content), "Content: must be an 'async def' function, or a"),
        (lambda: wrong().subscribe("a", 5)(handle), "handle: has the consumer group 5"),
        (lambda: wrong().subscribe("a", retry=5), "no option 'retry'; known: timeout_sec"),
        (lambda: wrong().on("start", handle), "no event 'start'; use 'initialize'"),
        (lambda: wrong().mount(Content), "mount.. takes a Router"),
        (lambda: wrong(plugins=[Router]), "got the class Router, expected an instance"),
        (lambda: Retry(delay=-1), "delay=-1"),
        (lambda: Retry(delay=float("nan")), "delay=nan"),
        (lambda: Retry(delay=float("inf")), "delay=inf"),
        (lambda: Retry(delay=wrong), "delay=<class"),
        (lambda: Retry(delay=True), "delay=True"),
        (lambda: Defer(-1), "until=-1"),
        (lambda: Defer(float("nan")), "until=nan"),
        (lambda: Defer(float("inf")), "until=inf"),
        (lambda: Defer(True), "until=True"),
        (lambda: Defer("tomorrow"), "until='tomorrow'"),  # type: ignore[arg-type]  # wrong
        (lambda: Defer(datetime(2026, 1, 1)), "must be a datetime with a time zone"),
        (lambda: Defer(1_795_000_000.5), "waits for 57 years: a number is seconds from now"),
    ],
)
def test_a_wrong_declaration_is_refused_at_once(use: Callable[[], Any], told: str) -> None:
    with pytest.raises(Exception, match=told) as raised:
        use()

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ((5, None, None, None), "the stream is 5 of type int, not str"),
        (("", None, None, None), "stream's name is empty"),
        (("s", "key", None, None), "key is of type str, not bytes"),
        (("s", None, "1", None), "partition is '1' of type str, not int"),
        (("s", None, True, None), "partition is True of type bool, not int"),
        (("s", None, -1, None), "partition is -1"),
        (("s", None, None, 1.5), "timestamp_ms is 1.5 of type float, not int"),
        (("s", None, None, -5), "timestamp_ms is -5"),
        (("s", None, None, 2**63), "timestamp_ms is 9223372036854775808; Kafka's largest is"),
        (("s", None, 2**31, None), "partition is 2147483648; Kafka's largest is 2147483647"),
    ],
)
def test_a_wrong_address_of_a_message_is_refused(
    address: tuple[Any, Any, Any, Any], told: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        check_address(*address)


@pytest.mark.u38
@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"a": b"b"}, r"list\(headers.items\(\)\)"),
        ([("a", "b")], "'a' has a value of type str, not bytes"),
        ([(1, b"b")], "name 1 is int, not str"),
        (["ab"], "'ab' is not a pair"),
        ([("a", b"b", b"c")], "is not a pair"),
        (5, "headers are of type int, not a list of pairs"),
        ([("\ud800", b"b")], "has surrogates"),
    ],
)
def test_wrong_headers_are_refused(headers: Any, told: str) -> None:
    """Malformed headers were logged and sent."""
    with pytest.raises((TypeError, ValueError), match=told):
        copy_headers(headers)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((5, (), None), 'schema is of type int, not str; give "Content:1"'),
        ((["N:1"], (), None), "schema is of type list"),
        ((None, None, None), "origins is of type NoneType, not a list of messages"),
        ((None, "x", None), "origins is of type str"),
        ((None, (), [1]), "meta is of type list, not a dict"),
    ],
)
def test_wrong_options_of_a_message_are_refused(options: tuple[Any, Any, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        check_options(*options)


@pytest.mark.parametrize(
    ("data", "key", "told"),
    [
        (5, None, "data is of type int, not an iterable of messages"),
        ([], b"x", "key is of type bytes, not a function"),
    ],
)
def test_wrong_arguments_for_many_messages_are_refused(data: Any, key: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        check_many("orders", data, key, None)


@pytest.mark.u37
@pytest.mark.u38
def test_headers_are_copied() -> None:
    """The caller's list, or the record's tuple, is never touched."""
    own = [("a", b"1")]
    record = (("a", b"1"), ("empty", None))

    copies = copy_headers(own), copy_headers(record)
    copies[0].append(("b", b"2"))

    assert own == [("a", b"1")]
    assert copies[1] == list(record)
    assert copy_headers(None) == []


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda app: app.consume_for(0), r"consume_for\(0\)"),
        (lambda app: app.consume_for("3"), r"consume_for\('3'\)"),
        (lambda app: app.consume_for(True), r"consume_for\(True\)"),
        (lambda app: app.consume_for(1, seconds=0), "seconds=0"),
        (lambda app: app.consume_for(1, seconds="5"), "seconds='5'"),
        (lambda app: app.publish("s", None), "NoneType.*raw_publish"),
        (lambda app: app.publish("s", b"x"), "bytes.*raw_publish"),
        (lambda app: app.raw_publish("s", "x"), "str, not bytes; use publish"),
        (lambda app: app.publish("s", {}, "key"), "key is of type str"),
        (lambda app: app.initialize(), "no Kafka servers"),
    ],
)
async def test_a_wrong_call_is_refused_before_anything_connects(
    call: Callable[[Application], Any], told: str
) -> None:
    app = Application(entry_points=False)

    with pytest.raises(Exception, match=told):
        await call(app)


async def attempted(misuse: Callable[[], Any]) -> None:
    if (waiting := misuse()) is not None:
        await waiting


class Keeping:
    """Keeps the message that it sees last."""

    message: Any = None

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: Any) -> Any:
        self.message = message
        return await call_next(message)


@pytest.mark.parametrize("is_local", [False, True], ids=["fetched", "handled without Kafka"])
async def test_an_error_about_a_message_names_its_public_class(is_local: bool) -> None:
    """It named FetchedMessage, or LocalMessage, which nobody can look up."""
    keeping = Keeping()
    app = Application("embedded://", plugins=[keeping], entry_points=False)
    app.schema("Content", streams=["orders"])(Content)
    app.subscribe("orders", "group")(handle)
    async with app:
        if is_local:
            await app.handle("orders", b"1")
        else:
            await app.raw_publish("orders", b"1")
            await app.consume_for(1, seconds=20)
        message: Any = keeping.message
        misuses: list[Callable[[], Any]] = [
            lambda: app.publish("orders", message),
            lambda: app.publish(message, {}),
            lambda: app.publish("orders", {}, key=message),
            lambda: app.publish("orders", {}, headers=message),
            lambda: app.publish("orders", {}, headers=[message]),
            lambda: app.publish("orders", {}, headers=[("name", message)]),
            lambda: app.publish("orders", {}, origins=message),
            lambda: app.publish("orders", {}, meta=message),
            lambda: app.publish("orders", {"foo": message}, schema="Content:1"),
            lambda: app.publish_many("orders", message),
            lambda: app.raw_publish("orders", message),
            lambda: app.forward("orders", message),
            lambda: message.nothing,
            lambda: app.mount(message),
        ]
        told = []
        for misuse in misuses:
            with pytest.raises(Exception) as raised:  # noqa: PT011 - of any class
                await attempted(misuse)
            told.append(str(raised.value))

    assert [text for text in told if "FetchedMessage" in text or "LocalMessage" in text] == []
    assert sum("IncomingMessage" in text for text in told) >= 11, told
