"""The conformance kit: checks the required behaviour of a plugin's hooks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core import (
    App,
    BatchFailure,
    Defer,
    Disposition,
    IncomingMessage,
    RebalanceEvent,
    Retry,
    Router,
    SchemaRegistration,
    Skip,
    Stop,
    Subscription,
)

from .fakes import HookRunner, delivery, incoming_message, outgoing_message

__all__ = ["check_plugin"]

Check = Callable[[str], Coroutine[Any, Any, str | None]]
PARTITION = TopicPartition("checked", 0)
LIMIT = 5.0
CONSUMING = ("wrap_consume", "wrap_consume_batch")


class Problem(Exception):
    """An exception that no plugin knows."""


def check_plugin(plugin: object, *, answers_failures: bool = False) -> None:
    """Check that a plugin passes on results, exceptions and context unchanged.

    For every `wrap_*` hook of the plugin: results, exceptions, dispositions and cancellations pass
    through unchanged; context variables are restored; a second call of `call_next` is harmless and
    adds no header again. Observers do not raise, and a lifespan can be entered and left. The check
    runs its own event loop, so call it from a plain function.

    With `answers_failures` the plugin handles handlers' exceptions itself, for example with retries
    or dead letters. Then `wrap_consume` and `wrap_consume_batch` may return, or raise a
    disposition, instead of the exception, but may not raise another exception. All other checks
    apply. Test the plugin's own reaction separately.

    Raises:
        AssertionError: lists every check that failed.
        PluginError: the plugin breaks the contract of registration.
    """
    runner = HookRunner(plugin)
    (name,) = (info.name for info in runner.plugins.list())
    failures = asyncio.run(_Checks(runner, answers_failures=answers_failures).run())
    if failures:
        listed = "\n".join(f"  {failure}" for failure in failures)
        raise AssertionError(f"plugin {name!r} does not conform:\n{listed}")


class _Checks:
    """Runs all checks of a plugin's hooks, and lists the failed checks."""

    def __init__(self, runner: HookRunner, *, answers_failures: bool) -> None:
        self._runner = runner
        self._answers_failures = answers_failures
        self._plugins = runner.plugins
        self._failures: list[str] = []

    async def run(self) -> list[str]:
        (info,) = self._plugins.list()
        for hook in info.hooks:
            if hook.startswith("wrap_"):
                for check in (
                    self.passes_results,
                    self.passes_exceptions,
                    self.passes_dispositions,
                    self.passes_cancellation,
                    self.resets_context,
                    self.survives_a_second_call,
                ):
                    await self._try(hook, check)
            elif hook != "bind_parameter":
                await self._try(hook, self._others().get(hook, self.observes_without_raising))
        return self._failures

    def _others(self) -> dict[str, Check]:
        """Return the checks of hooks that are neither layers nor observers."""
        return {
            "lifespan": self.enters_and_leaves,
            "declare": self.declares_at_each_start,
            "check_subscription": self.accepts_what_has_no_options,
            "codec": self.reads_what_it_writes,
            "upcasters": self.answers_with_functions,
            "health": self.answers_as_expected,
            "report": self.answers_as_expected,
        }

    async def _try(self, hook: str, check: Check) -> None:
        name = check.__name__.replace("_", " ")
        # In a context of its own: what one check leaves behind is not there for the next.
        checking = asyncio.create_task(check(hook), context=contextvars.Context())
        try:
            async with asyncio.timeout(LIMIT):
                problem = await checking
        except (Exception, Disposition) as error:
            problem = f"raised {type(error).__name__}: {error}"
        if problem:
            self._failures.append(f"{hook}: {name}: {problem}")

    # --- the checks; each returns what is wrong, or None

    async def passes_results(self, hook: str) -> str | None:
        """The layer calls call_next and returns its result."""
        result, calls = _result(hook), 0

        async def terminal(subject: Any) -> Any:
            nonlocal calls
            calls += 1
            return result

        got = await self._runner.chain(hook, terminal)(_subject(hook))
        if calls == 0:
            return "call_next was not called"
        return None if got is result else f"returned {got!r} instead of what call_next returned"

    async def passes_exceptions(self, hook: str) -> str | None:
        """The exception of call_next passes through, or the plugin handles it itself."""
        error = Problem("of the innermost call")
        if not (self._answers_failures and hook in CONSUMING):
            return await self._passes(hook, error)

        async def terminal(subject: Any) -> Any:
            raise error

        try:
            await self._runner.chain(hook, terminal)(_subject(hook))
        except (Disposition, BatchFailure):
            return None
        except Exception as raised:
            return None if raised is error else f"Problem came out as {type(raised).__name__}"
        return None

    async def passes_dispositions(self, hook: str) -> str | None:
        """Retry, Defer, Skip and Stop pass through."""
        for disposition in (Retry(delay=0), Defer(0), Skip("why"), Stop("why")):
            if problem := await self._passes(hook, disposition):
                return problem
        return None

    async def _passes(self, hook: str, error: BaseException) -> str | None:
        async def terminal(subject: Any) -> Any:
            raise error

        try:
            await self._runner.chain(hook, terminal)(_subject(hook))
        except BaseException as raised:
            if raised is error:
                return None
            return f"{type(error).__name__} came out as {type(raised).__name__}"
        return f"{type(error).__name__} was swallowed"

    async def passes_cancellation(self, hook: str) -> str | None:
        """A cancelled chain ends with the cancellation."""
        started = asyncio.Event()

        async def terminal(subject: Any) -> Any:
            started.set()
            await asyncio.Event().wait()

        async def work() -> None:
            await self._runner.chain(hook, terminal)(_subject(hook))

        task = asyncio.create_task(work())
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1.0)
        if not done:
            return "a cancelled call goes on"
        return None if task.cancelled() else "the cancellation was swallowed"

    async def resets_context(self, hook: str) -> str | None:
        """Context variables are restored, even after a failure."""
        for fails in (False, True):
            if left := await self._left_in_context(hook, fails):
                return f"left the context variables {', '.join(left)} changed"
        return None

    async def _left_in_context(self, hook: str, fails: bool) -> list[str]:
        async def terminal(subject: Any) -> Any:
            if fails:
                raise Problem
            return _result(hook)

        before = dict(contextvars.copy_context())
        with contextlib.suppress(Exception, Disposition):  # another check's concern
            await self._runner.chain(hook, terminal)(_subject(hook))
        after = dict(contextvars.copy_context())
        names = before.keys() | after.keys()
        return sorted(v.name for v in names if before.get(v) is not after.get(v))

    async def survives_a_second_call(self, hook: str) -> str | None:
        """An outer layer may call again with the same subject: nothing is added twice."""
        seen: list[list[str]] = []

        async def terminal(subject: Any) -> Any:
            seen.append([name for name, _ in getattr(subject, "headers", ())])
            return _result(hook)

        call, subject = self._runner.chain(hook, terminal), _subject(hook)
        await call(subject)
        await call(subject)
        if len(seen) != 2:
            return f"call_next was called {len(seen)} times in two calls"
        added = [name for name in set(seen[1]) if seen[1].count(name) > seen[0].count(name)]
        return f"the header {added[0]!r} was added twice" if added else None

    async def enters_and_leaves(self, hook: str) -> str | None:
        """A lifespan can be entered and left."""
        for lifespan in self._plugins.lifespans(self._runner.app):
            async with lifespan:
                pass
            if lifespan.failure is not None:
                raise lifespan.failure
        return None

    async def declares_at_each_start(self, hook: str) -> str | None:
        """At each start, the plugin makes the same declarations on a new router."""
        declared = []
        for _ in range(2):
            router = Router()
            self._plugins.declare(lambda router=router: router, self._runner.app)  # type: ignore[misc]  # bound now
            groups = [(one.group, tuple(one.streams)) for one in router.subscriptions]
            declared.append((groups, list(router.schemas)))
        first, second = declared
        return None if first == second else f"declared {first} at first, and then {second}"

    async def accepts_what_has_no_options(self, hook: str) -> str | None:
        """A subscription without any of the plugin's options is valid."""
        self._plugins.check_subscription(self._runner.subscription)
        return None

    async def reads_what_it_writes(self, hook: str) -> str | None:
        """A message that is encoded, once or twice, is decoded to its schema and data."""
        schema, find = _registration(), self._plugins.codec
        codec = None if find is None else find("checked", schema)
        if codec is None:
            return None  # not on this stream
        written = _subject("wrap_publish")
        codec.encode(written, schema, CONTENT)
        names = [name for name, _ in written.headers]
        value = codec.encode(written, schema, CONTENT)
        if len(written.headers) > len(names):
            return f"the header {written.headers[-1][0]!r} was added twice"
        read = incoming_message(value, stream="checked", headers=written.headers)
        key, content = codec.decode(read, schema)
        if (key, json.loads(content)) != (schema.key, json.loads(CONTENT)):
            return f"wrote {CONTENT!r} of {schema.key}, and read {content!r} of {key}"
        return None

    async def answers_with_functions(self, hook: str) -> str | None:
        """For an unknown schema, the hook returns functions or nothing."""
        self._plugins.upcasts(_registration(), self._runner.subscription)
        return None

    async def answers_as_expected(self, hook: str) -> str | None:
        """The hook returns texts or JSON-able data, even before anything was published."""
        ask = self._plugins.hindrances if hook == "health" else self._plugins.reports
        answer = ask(self._runner.app)
        failed = sum(self._plugins.observer_errors.values())
        return f"failed: {answer}" if failed else None

    async def observes_without_raising(self, hook: str) -> str | None:
        """An observer is called with every kind of event."""
        notify = self._plugins.notifier(hook)
        if notify is None:
            return "is not called"
        for values in _events(hook, self._runner.app, self._runner.subscription):
            notify(*values)
        raised = sum(self._plugins.observer_errors.values())
        return f"raised {raised} times; its log line says what" if raised else None


CONTENT = b'{"a":1}'
HEADERS = (("name", b"value"), ("name", b"twice"), ("nothing", None), ("bad", b"\xff"))


def _incoming() -> IncomingMessage:
    return incoming_message(stream="checked", offset=7, key=b"key", headers=HEADERS)


def _subject(hook: str) -> Any:
    """Return a new subject of a chain for each check."""
    if hook == "wrap_publish":
        return outgoing_message({"a": 1}, stream="checked", headers=[("name", b"value")])
    if hook == "wrap_consume":
        return _incoming()
    if hook == "wrap_consume_batch":
        return [_incoming()]
    if hook == "wrap_commit":
        return {PARTITION: 8}
    return _registration()


def _registration() -> SchemaRegistration:
    return SchemaRegistration("Checked", document={"type": "object"})


def _result(hook: str) -> Any:
    return delivery(topic="checked", offset=7) if hook == "wrap_publish" else None


def _metadata() -> RecordMetadata:
    return RecordMetadata(*PARTITION, PARTITION, 7, 0, 0, 0)


def _events(hook: str, app: App, subscription: Subscription) -> Iterator[tuple[Any, ...]]:
    """Return the possible arguments of an observer."""
    if hook == "published":
        yield _subject("wrap_publish"), _metadata(), None, app
        yield _subject("wrap_publish"), None, Problem("not delivered"), app
    elif hook == "schema_registered":
        yield _registration(), app
    else:
        kinds = ("assigned",) if hook == "partitions_assigned" else ("revoked", "lost")
        for kind in kinds:
            event = RebalanceEvent(kind, frozenset([PARTITION]), "checked")  # type: ignore[arg-type]  # one of its kinds
            yield event, subscription, app
