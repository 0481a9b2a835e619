"""What handlers of one group must not share, and names that only a start can check."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kafkaesk_core import Application, SubscriptionError, hookimpl


async def first(data: bytes) -> None: ...


async def second(data: bytes) -> None: ...


class Audit:
    @hookimpl
    def published(self) -> None: ...


def new_app(prefix: str = "") -> Application:
    return Application("localhost:1", prefix, entry_points=False, plugins=[Audit()])


Streams = str | Sequence[str]


def subscribe(app: Application, streams: Streams, group: str, handler: object) -> None:
    declare = app.subscribe if isinstance(streams, str) else app.subscribe_to_topics
    declare(streams, group)(handler)  # type: ignore[arg-type, type-var]  # both, by the parameters


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("orders", "orders", "orders"),
        ("orders", ["a", "orders"], "orders"),
        (["orders"], ["orders"], "orders"),
        ("orders.*", "orders.placed", "orders.placed"),
        (["orders.placed"], "orders.?laced", "orders.placed"),
        ("orders.*", "orders.*", r"orders\.\*"),
        ("orders.[ab]", "orders.[ab]", r"orders\.\[ab\]"),
        ("*", "orders.*", r"orders\.\*"),
        ("orders.placed.*", "orders.*", r"orders\.placed\.\*"),
    ],
)
async def test_two_handlers_of_one_stream_and_group_are_refused_at_start(
    one: Streams, other: Streams, shared: str
) -> None:
    app = new_app()
    subscribe(app, one, "billing", first)
    subscribe(app, other, "billing", second)

    told = f"'{shared}' is subscribed by .*first and by .*second in group 'billing'.*another group"
    with pytest.raises(SubscriptionError, match=told):
        await app.initialize()


@pytest.mark.parametrize(
    ("one", "other", "group"),
    [
        ("orders", "orders", "shipping"),
        ("orders", "payments", "billing"),
        ("orders.*", "payments.*", "billing"),
        ("*.placed", "*.paid", "billing"),
        ("orders.*", "*.placed", "billing"),
        ("orders.[a-m]*", "orders.[n-z]*", "billing"),
        ("orders.?", "orders.??", "billing"),
    ],
)
async def test_handlers_that_may_share_nothing_are_bound(
    one: Streams, other: Streams, group: str
) -> None:
    """The second error comes from the next step: nobody listens at the address."""
    app = new_app()
    app.configure(start_timeout=0.1)
    subscribe(app, one, "billing", first)
    subscribe(app, other, group, second)

    with pytest.raises(Exception, match="localhost:1"):
        await app.initialize()


async def test_a_plugin_to_skip_that_nobody_knows_is_refused_at_start() -> None:
    app = new_app()
    app.subscribe("orders", skip_plugins=["audti"])(first)

    with pytest.raises(
        SubscriptionError, match=r"first: skip_plugins names 'audti'.*did you mean 'audit'\?"
    ):
        await app.initialize()


async def test_a_name_that_is_too_long_with_the_prefix_is_refused_at_start() -> None:
    app = new_app("p" * 200)
    app.subscribe("o" * 50)(first)

    with pytest.raises(SubscriptionError, match=r"with the topic prefix 'ppp.*cannot be a topic"):
        await app.initialize()
