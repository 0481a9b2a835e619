"""Binding of handler parameters (S8, S9, D28; U5, U44)."""

from __future__ import annotations

import functools
from inspect import Parameter
from typing import Annotated, Any

import pytest
from aiokafka.structs import ConsumerRecord

from kafkaesk_core.errors import SubscriptionError
from kafkaesk_core.handlers import ArgumentProviders, BatchBinding, Binding, bind
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.router import Subscription
from kafkaesk_core.threads import HandlerThreads


def message() -> IncomingMessage:
    record = ConsumerRecord("topic", 0, 7, 0, 0, b"k", b"value", None, 1, 5, ())
    return IncomingMessage(record, "stream")


def bound(
    func: Any, claim: Any = lambda parameter, subscription: None, **options: Any
) -> tuple[Any, list[Any]]:
    """The bound call, and the annotations that decoders were asked for."""
    asked: list[Any] = []

    def decoder(annotation: Any) -> Any:
        asked.append(annotation)
        return lambda m: m.value

    subscription = Subscription("id", func, "group", pattern="*", **options)
    known = ArgumentProviders(
        one={"schema": lambda m: "Content:1", "record": lambda m: m.record},
        batch={"app": lambda ms: f"app of {len(ms)}"},
    )
    binding = bind(
        subscription, decoder=decoder, known=known, claim=claim, threads=HandlerThreads()
    )
    if isinstance(binding, BatchBinding):
        return binding, asked
    assert isinstance(binding, Binding)
    return binding.call, asked


async def test_quoted_annotations_are_resolved() -> None:
    async def handle(data: "ConsumerRecord") -> Any:  # noqa: UP037 - that is the case tested
        return data

    call, asked = bound(handle)

    assert asked == [ConsumerRecord]
    assert await call(message()) == b"value"


async def test_annotated_keeps_its_metadata() -> None:
    async def handle(data: Annotated[bytes, "raw"]) -> None: ...

    _, asked = bound(handle)

    assert asked == [Annotated[bytes, "raw"]]


async def test_no_annotation_asks_for_the_decoded_message() -> None:
    async def handle(data) -> None:  # type: ignore[no-untyped-def]  # that is the case tested
        ...

    _, asked = bound(handle)

    assert asked == [Parameter.empty]


async def test_known_parameters_are_filled_and_defaults_left() -> None:
    async def handle(data: bytes, record: Any, schema: str, extra: int = 3) -> Any:
        return data, record.offset, schema, extra

    call, _ = bound(handle)

    assert await call(message()) == (b"value", 7, "Content:1", 3)


async def test_a_claimed_parameter_is_filled_by_who_claims_it() -> None:
    async def handle(data: bytes, span: Any) -> Any:
        return span

    call, _ = bound(handle, lambda parameter, _: lambda m: f"{parameter.name}@{m.offset}")

    assert await call(message()) == "span@7"


@pytest.mark.u44
async def test_two_subscriptions_of_one_handler_share_nothing() -> None:
    """Arguments were kept on the function."""

    async def handle(data: bytes, span: Any) -> Any:
        return span

    first, _ = bound(handle, lambda *_: lambda m: 1)
    second, _ = bound(handle, lambda *_: lambda m: 2)

    assert (await first(message()), await second(message())) == (1, 2)


async def test_partials_and_callable_objects_are_handlers() -> None:
    class Callable:
        async def __call__(self, data: bytes) -> Any:
            return data

    async def handle(prefix: str, data: bytes) -> Any:
        return prefix, data

    called, asked = bound(Callable())
    partially, _ = bound(functools.partial(handle, "x"))

    assert asked == [bytes]
    assert await called(message()) == b"value"
    assert await partially(message()) == ("x", b"value")


@pytest.mark.u5
def test_an_annotation_that_cannot_be_resolved_names_handler_parameter_and_remedy() -> None:
    """Every message was lost silently."""

    async def handle(data: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    with pytest.raises(SubscriptionError, match=r"handle: .*'data'.*Nowhere.*module level"):
        bound(handle)


def test_a_parameter_that_nothing_fills_names_the_known_ones() -> None:
    async def handle(data: bytes, tracer: Any) -> None: ...

    with pytest.raises(SubscriptionError, match=r"handle: .*'tracer'.*record, schema"):
        bound(handle)


@pytest.mark.u20
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds=0"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"ordering": "random"}, "ordering='random'.*partition, key, unordered"),
        ({"on_error": "ignore"}, "on_error='ignore'.*'stop', 'skip'"),
        ({"pattern": ""}, "stream pattern"),
        ({"pattern": None, "topics": "ab"}, "list of stream names"),
        ({"pattern": None, "topics": []}, "list of stream names"),
    ],
)
def test_a_subscription_that_cannot_work_is_refused_at_once(
    arguments: dict[str, Any], told: str
) -> None:

    async def handle(data: bytes) -> None: ...

    with pytest.raises(SubscriptionError, match=told):
        Subscription("id", handle, "group", **{"pattern": "*", **arguments})


@pytest.mark.s9
@pytest.mark.parametrize(
    ("annotation", "item"),
    [
        (list[bytes], bytes),
        (list[ConsumerRecord], ConsumerRecord),
        (Annotated[list[bytes], "raw"], bytes),
        (list, Parameter.empty),
    ],
)
async def test_a_list_takes_batches_of_what_it_holds(annotation: Any, item: Any) -> None:
    async def handle(data: Any, app: Any) -> Any:
        return data, app

    handle.__annotations__["data"] = annotation

    binding, asked = bound(handle)

    assert asked == [item]
    assert await binding.call([b"one", b"two"], [message(), message()]) == (
        [b"one", b"two"],
        "app of 2",
    )


async def test_what_claims_a_parameter_of_a_batch_gets_its_first_message() -> None:
    async def handle(data: list[bytes], tenant: str) -> Any:
        return tenant

    binding, _ = bound(handle, claim=lambda parameter, subscription: lambda m: m.offset)

    assert await binding.call([b"value"], [message()]) == 7


def test_a_batch_handler_has_no_record_and_no_schema() -> None:
    async def handle(data: list[bytes], schema: str) -> None: ...

    with pytest.raises(SubscriptionError, match=r"'schema'; known are app"):
        bound(handle)


@pytest.mark.parametrize("option", [{"batch_size": 10}, {"batch_timeout": 1.0}])
def test_batch_options_without_a_list_are_refused(option: dict[str, Any]) -> None:
    async def handle(data: bytes) -> None: ...

    with pytest.raises(SubscriptionError, match=r"has batch_\w+, but takes one message.*list\["):
        bound(handle, **option)


def test_batches_have_the_order_of_their_partition() -> None:
    async def handle(data: list[bytes]) -> None: ...

    with pytest.raises(SubscriptionError, match=r"takes batches and has ordering='key'"):
        bound(handle, ordering="key")
