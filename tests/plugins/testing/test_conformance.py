"""The conformance kit: a good plugin passes, a broken one fails each check by its name."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafkaesk_core import Retry, Router, Skip, hookimpl
from kafkaesk_testing import check_plugin

current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="")


class Good:
    """Does something in every hook, and passes everything on."""

    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        if "traced" not in dict(message.headers):
            message.headers.append(("traced", b"1"))
        return await call_next(message)

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any, subscription: Any) -> Any:
        token = current.set(subscription.group)
        try:
            return await call_next(message)
        finally:
            current.reset(token)

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any, reason: str) -> None:
        await call_next(offsets)

    @hookimpl
    async def wrap_schema(self, schema: Any, call_next: Any) -> None:
        await call_next(schema)

    @hookimpl
    def schema_registered(self, schema: Any) -> None:
        assert schema.key

    @hookimpl
    def published(self, message: Any, metadata: Any, error: Any) -> None:
        assert (metadata is None) != (error is None)

    @hookimpl
    def partitions_assigned(self, event: Any) -> None:
        assert event.kind == "assigned"

    @hookimpl
    def partitions_revoked(self, event: Any) -> None:
        assert event.kind in ("revoked", "lost")

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        yield

    @hookimpl
    def declare(self, router: Router) -> None:
        @router.subscribe_to_topics(["later"], "later")
        async def handle(data: bytes) -> None: ...

    @hookimpl
    def health(self) -> Iterator[str]:
        yield "the collector does not answer"

    @hookimpl
    def report(self, app: Any) -> dict[str, Any]:
        return {"state": app.status().state}

    @hookimpl
    def check_subscription(self, subscription: Any) -> None:
        assert subscription.options.get("traced") is None


def test_a_good_plugin_passes() -> None:
    check_plugin(Good())


def test_the_example_plugin_passes() -> None:
    from examples.custom_hook import Timing

    check_plugin(Timing(Timing.Settings()))


class ForgetsToReturn:
    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        await call_next(message)


class ForgetsToCall:
    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        return None


class SwallowsExceptions:
    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        try:
            return await call_next(message)
        except Exception:
            return None


class TranslatesExceptions:
    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any) -> None:
        try:
            await call_next(offsets)
        except Exception as error:
            raise RuntimeError("mine") from error


class SwallowsDispositions:
    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        try:
            return await call_next(message)
        except asyncio.CancelledError:
            raise
        except Exception:
            raise
        except BaseException:
            return None


class SwallowsCancellation:
    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        try:
            return await call_next(message)
        except asyncio.CancelledError:
            return None


class LeavesItsContext:
    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        current.set("left behind")
        return await call_next(message)


class AddsHeadersTwice:
    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        message.headers.append(("traced", b"1"))
        return await call_next(message)


class RaisesInAnObserver:
    @hookimpl
    def published(self, message: Any, metadata: Any, error: Any) -> None:
        raise ValueError("no")


class NeverLeaves:
    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        yield
        raise ValueError("cannot leave")


class DeclaresOnce:
    is_declared = False

    @hookimpl
    def declare(self, router: Any) -> None:
        if not self.is_declared:
            Good().declare(router)
        self.is_declared = True


class NeedsItsOption:
    @hookimpl
    def check_subscription(self, subscription: Any) -> None:
        subscription.options["traced"]


class ReportsNoData:
    @hookimpl
    def report(self) -> dict[str, Any]:
        return {"lock": object()}


class HealthIsOneText:
    @hookimpl
    def health(self) -> str:
        return "fine"


class Form:
    """A codec that writes the schema into a header."""

    @hookimpl
    def codec(self, stream: str, schema: Any) -> Any:
        return self

    def encode(self, message: Any, schema: Any, content: bytes) -> bytes:
        message.headers = [h for h in message.headers if h[0] != "schema"]
        message.headers.append(("schema", schema.key.encode()))
        return content

    def decode(self, message: Any, schema: Any) -> tuple[str, bytes]:
        return dict(message.headers)["schema"].decode(), message.value


class FormOfAnother(Form):
    def decode(self, message: Any, schema: Any) -> tuple[str, bytes]:
        return "Other:1", message.value


class FormWithTwoHeaders(Form):
    def encode(self, message: Any, schema: Any, content: bytes) -> bytes:
        message.headers.append(("schema", schema.key.encode()))
        return content


class UpcastsAreNone:
    @hookimpl
    def upcasters(self, schema: Any) -> Any:
        return {"Checked:0": "later"}


def test_a_codec_that_reads_what_it_writes_passes() -> None:
    check_plugin(Form())


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        (FormOfAnother(), "codec: reads what it writes: wrote b'{\"a\":1}' of Checked:1, and read"),
        (FormWithTwoHeaders(), "codec: reads what it writes: the header 'schema' was added twice"),
        (UpcastsAreNone(), "upcasters: answers with functions: raised PluginError"),
        (ReportsNoData(), "report: answers as expected: failed: "),
        (HealthIsOneText(), "health: answers as expected: failed: "),
        (DeclaresOnce(), "declare: declares at each start: declared "),
        (NeedsItsOption(), "check_subscription: accepts what has no options: raised PluginError"),
        (ForgetsToReturn(), "wrap_publish: passes results: returned None"),
        (ForgetsToCall(), "wrap_consume: passes results: call_next was not called"),
        (SwallowsExceptions(), "wrap_consume: passes exceptions: Problem was swallowed"),
        (TranslatesExceptions(), "wrap_commit: passes exceptions: Problem came out as RuntimeErr"),
        (SwallowsDispositions(), "wrap_consume: passes dispositions: Retry was swallowed"),
        (SwallowsCancellation(), "wrap_consume: passes cancellation: the cancellation was swal"),
        (LeavesItsContext(), "wrap_consume: resets context: left the context variables current"),
        (AddsHeadersTwice(), "survives a second call: the header 'traced' was added twice"),
        (RaisesInAnObserver(), "published: observes without raising: raised 2 times"),
        (NeverLeaves(), "lifespan: enters and leaves: raised ValueError: cannot leave"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_plugin_fails_the_check_that_finds_it(plugin: object, told: str) -> None:
    with pytest.raises(AssertionError) as failed:
        check_plugin(plugin)

    assert told in str(failed.value)


class Answers:
    """Has its own answer to what handlers raise."""

    def __init__(self, answer: BaseException | None) -> None:
        self.answer = answer

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        try:
            return await call_next(message)
        except Exception:
            if self.answer is not None:
                raise self.answer from None
            return None


@pytest.mark.parametrize("answer", [None, Retry(delay=1), Skip("it is dead")])
def test_a_plugin_may_have_its_own_answer_to_failures(answer: BaseException | None) -> None:
    check_plugin(Answers(answer), answers_failures=True)

    with pytest.raises(AssertionError, match="wrap_consume: passes exceptions"):
        check_plugin(Answers(answer))


@pytest.mark.parametrize("plugin", [Answers(RuntimeError("hidden")), SwallowsDispositions()])
def test_an_answer_to_failures_hides_none_and_answers_nothing_else(plugin: object) -> None:
    with pytest.raises(AssertionError, match="wrap_consume: passes"):
        check_plugin(plugin, answers_failures=True)
