"""Applications of kafkaesk 0.8 run on kafkaesk-core, under their old names."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_compat.application import Application, Router
from kafkaesk_compat.original import RefuseOriginal, check_original
from kafkaesk_compat.topics import KafkaTopicManager

# Any in this file: names of every kind.


class Content(BaseModel):
    foo: str


class Unregistered(BaseModel):
    foo: str


NAMES = {
    "kafkaesk": (*("Application", "BatchConsumer", "Router", "Subscription", "run", "run_app"),),
    "kafkaesk.app": ("Application", "Router", "SchemaRegistration", "run_app"),
    "kafkaesk.consumer": ("BatchConsumer", "Subscription"),
    "kafkaesk.exceptions": (
        *("AppNotConfiguredException", "AutoCommitError", "ConsumerUnhealthyException"),
        *("HandlerTaskCancelled", "JsonSchemaRequiredException", "ProducerUnhealthyException"),
        *("SchemaConflictException", "StopConsumer", "UnhandledMessage"),
    ),
    "kafkaesk.ext.logging": (
        *("PydanticKafkaeskHandler", "PydanticLogModel", "PydanticStreamHandler"),
    ),
    "kafkaesk.ext.logging.handler": ("KafkaeskQueue", "PydanticLogModel"),
    "kafkaesk.ext.logging.record": ("PydanticLogRecord", "factory"),
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names]
)
def test_an_old_name_works_and_says_what_to_import_instead(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{module}\.{name} .*; use kafkaesk_\w+\.\w+"):
        found = getattr(importlib.import_module(module), name)

    assert found is not None
    assert name in dir(importlib.import_module(module))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'kafkaesk' has no attribute 'Aplication'"):
        _ = importlib.import_module("kafkaesk").Aplication


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SchemaConflictException", kafkaesk_core.SchemaConflictError),
        ("AppNotConfiguredException", kafkaesk_core.NotConfiguredError),
        ("ConsumerUnhealthyException", kafkaesk_core.UnhealthyError),
    ],
)
def test_an_old_exception_catches_what_the_core_raises(old: str, new: type) -> None:
    with pytest.warns(DeprecationWarning, match=old):
        assert getattr(importlib.import_module("kafkaesk.exceptions"), old) is new


async def test_a_service_of_the_old_library_runs() -> None:
    """With a router, a handler's parameters, and a model that nobody registered."""
    router = Router()
    got: list[Any] = []

    router.schema("Content", version=1, retention=24 * 60 * 60)(Content)

    @router.subscribe("content.*", group="readers", concurrency=10, timeout_seconds=5)
    async def read(data: Content, schema: str, record: Any, app: Any, subscriber: Any) -> None:
        got.append((data.foo, schema, app))
        await subscriber.publish("other.stream", Unregistered(foo="on"))

    @router.subscribe("other.stream", "others")
    async def other(data) -> None:  # type: ignore[no-untyped-def]  # the whole envelope
        got.append(data["data"]["foo"])

    app = Application("embedded://", kafka_settings={"metadata_max_age_ms": 500})
    app.mount(router)
    async with app:
        future = await app.publish("content.foo", Content(foo="bar"))
        assert (await future).topic == "content.foo"
        await app.flush()
        await app.consume_for(2, seconds=20)

    assert got == [("bar", "Content:1", app), "on"]


def test_a_subscription_needs_a_group() -> None:
    app: Any = Application("embedded://")

    with pytest.raises(TypeError, match="group"):
        app.subscribe("foo.bar")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((["a:1"], "p.", {}, "auto", 2), {}),
        ((["a:1"], "p.", {}), {"api_version": "auto", "replication_factor": 2}),
        ((["a:1"], "p.", {}, 2), {}),
        ((), {"kafka_servers": ["a:1"], "topic_prefix": "p.", "replication_factor": 2}),
    ],
)
def test_configure_takes_the_arguments_of_both(arguments: Any, options: Any) -> None:
    app = Application()

    assert not app.is_configured
    app.configure(*arguments, **options)

    assert app.is_configured
    assert (app.settings.topic_prefix, app.settings.replication_factor) == ("p.", 2)


def test_what_old_services_ask_of_an_application() -> None:
    app = Application(["a:1"], "p.", {"session_timeout_ms": 20000}, auto_commit=False)

    @app.schema("Foo")
    class Foo(BaseModel):
        bar: str

    registration = app.get_schema_reg(Foo(bar="1"))
    assert registration is not None
    assert registration.id == "Foo"
    assert app.get_schema_reg(object()) is None
    assert app.kafka_settings == {"session_timeout_ms": 20000}
    assert app.auto_commit is False
    assert app.topic_mng.get_topic_id("x") == "p.x"


async def test_the_topic_manager_creates_finds_and_lists(kafka: Any) -> None:
    prefix = f"compat-{uuid4().hex[:8]}."
    manager = KafkaTopicManager(kafka.servers, prefix=prefix, replication_factor=1)
    topic = manager.get_topic_id("one")
    app = Application(kafka.servers, prefix, replication_factor=1)

    @app.subscribe("one", f"{prefix}readers")
    async def read(data: bytes) -> None:
        pass

    assert not await manager.topic_exists(topic)
    await manager.create_topic(topic, partitions=1, retention_ms=60_000)
    await manager.create_topic(topic, partitions=1)  # it exists
    assert await manager.topic_exists(topic)
    async with app:
        await app.raw_publish("one", b"1")
        await app.consume_for(1, seconds=20)
        offsets = await app.topic_mng.list_consumer_group_offsets(f"{prefix}readers")
        assert {p.topic: o.offset for p, o in offsets.items()} == {topic: 1}
    await manager.finalize()


def test_a_topic_manager_without_servers_says_what_is_missing() -> None:
    with pytest.raises(kafkaesk_core.NotConfiguredError, match="give kafka_servers"):
        _ = Application().topic_mng


def test_beside_the_original_the_import_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kafkaesk_compat.original.version", lambda _: "0.8.5")

    with pytest.raises(ImportError, match=r"kafkaesk 0\.8\.5 and kafkaesk-compat .* pip uninstall"):
        check_original()


def test_beside_the_original_a_start_is_refused(tmp_path: Path) -> None:
    """Also where the original's modules won the import name: a plugin is made at every start."""
    information = tmp_path / "kafkaesk-0.8.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: kafkaesk\nVersion: 0.8.5\n")
    code = (
        "import asyncio, kafkaesk_core\n"
        "app = kafkaesk_core.Application('embedded://')\n"
        "asyncio.run(app.initialize())\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "share the import name kafkaesk; run: pip uninstall kafkaesk" in done.stderr


def test_the_plugin_conforms() -> None:
    from kafkaesk_testing import check_plugin

    check_plugin(RefuseOriginal())
