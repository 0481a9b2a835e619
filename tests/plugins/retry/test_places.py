"""Names of streams, and what headers say of places: anybody may write those."""

from __future__ import annotations

from typing import Any

import pytest

from kafkaesk_core import ConsumerRecord, Defer, IncomingMessage, MessageTooLargeError, Router
from kafkaesk_core.topic_names import is_topic_name
from kafkaesk_retry import Retries, RetrySettings
from kafkaesk_retry.dead.stored import read_letter
from kafkaesk_retry.letter import Origin, Postponed, origin_of
from kafkaesk_retry.places import Place, StreamNames
from kafkaesk_retry.recovery import Recovery

GROUPS = ("a b", "a_b", "a/b", "a:b", "ä_b", "a-b", "a_b-", "A_b", "a.b", "a_b.0")


def test_no_two_groups_share_a_stream() -> None:
    names = StreamNames()
    for made in (names.later, names.state, lambda group: names.dead(group, "orders")):
        streams = {made(group) for group in GROUPS}

        assert len(streams) == len(GROUPS)
        assert all(map(is_topic_name, streams))


def test_a_group_whose_name_a_topic_may_have_keeps_it() -> None:
    assert StreamNames().dead("billing-2.eu_west", "orders") == "dlq.billing-2.eu_west.orders"
    assert StreamNames().later("billing") == "retry.billing.0"
    assert StreamNames().later("billing", 1_234_567) == "retry.billing.1234567"


@pytest.mark.parametrize(
    "text",
    [
        *("", "in", "in/0", "in/0/", "/0/0", "in/0/0/0", "in/-1/0", "in/0/x", "in/٣/0", "in/0/ 1"),
        *(f"in/{2**31}/0", f"in/0/{2**63}", f"in/0/{'9' * 10_000}"),
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not topic/partition/offset"):
        Place.parse(text)


def test_the_largest_place_is_one() -> None:
    assert Place.parse(str(Place("in", 2**31 - 1, 2**63 - 1))) == ("in", 2**31 - 1, 2**63 - 1)


def record(*headers: tuple[str, bytes | None], **fields: Any) -> ConsumerRecord:
    """A record at in/0/7."""
    given = {"timestamp": 1000, "timestamp_type": 0, "key": None, "value": b"x", **fields}
    return ConsumerRecord(
        topic="in",
        partition=0,
        offset=7,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=1,
        headers=headers,
        **given,
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"kafkaesk-replay-of": b"nowhere"},
        {"kafkaesk-replay-of": None},
        {"kafkaesk-replay-count": b"1"},
        {"kafkaesk-replay-of": b"a/0/1", "kafkaesk-replay-count": b"-1"},
        {"kafkaesk-retry-of": b"a/0/1", "kafkaesk-retry-rounds": b"-3"},
        {"kafkaesk-retry-of": b"a/0/1", "kafkaesk-retry-deliveries": b"99999999999"},
        {"kafkaesk-retry-of": b"a/0/1", "kafkaesk-retry-due": b"9" * 400},
    ],
)
def test_a_record_with_headers_of_somebody_else_is_its_own_origin(
    headers: dict[str, bytes | None],
) -> None:
    message = IncomingMessage(record(*headers.items()), "in")

    assert origin_of(message) == Origin(Place("in", 0, 7))


KAFKA = {
    "__dlq.errors.topic": b"orders",
    "__dlq.errors.partition": b"1",
    "__dlq.errors.offset": b"2",
}
SPRING = {
    "kafka_dlt-original-topic": b"orders",
    "kafka_dlt-original-partition": b"\0\0\0\1",
    "kafka_dlt-original-offset": b"\0\0\0\0\0\0\0\2",
}


@pytest.mark.parametrize("style", [KAFKA, SPRING])
def test_a_dead_letter_of_another_library_needs_nothing_but_its_origin(
    style: dict[str, bytes],
) -> None:
    letter = read_letter(record(*style.items()))

    assert letter is not None
    assert letter.origin == ("orders", 1, 2)
    assert (letter.deliveries, letter.replays, letter.failed_at_ms) == (0, 0, 1000)


@pytest.mark.parametrize(
    "changed",
    [
        {**KAFKA, "__dlq.errors.partition": b"x"},
        {**KAFKA, "__dlq.errors.offset": b"9" * 400},
        {**KAFKA, "__dlq.errors.delivery.count": b"-1"},
        {**KAFKA, "kafkaesk-replay-count": b"many"},
        {**SPRING, "kafka_dlt-original-offset": b"\xff" * 3000},
        {**SPRING, "kafka_deliveryAttempt": b"\xff" * 8},
        {name: value for name, value in SPRING.items() if not name.endswith("offset")},
    ],
)
def test_what_is_no_dead_letter_is_foreign(changed: dict[str, bytes]) -> None:
    assert read_letter(record(*changed.items())) is None


@pytest.mark.parametrize("timestamp", [-1, 10**18])
def test_a_letter_whose_time_nobody_can_read_is_of_the_beginning(timestamp: int) -> None:
    headers = {**KAFKA, "kafkaesk-dlq-failed-at": b"9" * 30}

    letter = read_letter(record(*headers.items(), timestamp=timestamp))

    assert letter is not None
    assert letter.failed_at_ms == 0


class Refusing:
    """A mailer whose streams refuse everything; `asked` counts, and `error` says why."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def send(self, stream: str, parcel: object) -> None:
        self.asked += 1
        if self.error is not None and isinstance(parcel, Postponed):
            raise self.error

    def pause(self, stream: str) -> float:
        return 1.0


def recovery_of(settings: RetrySettings, **choices: Any) -> Recovery:
    """What decides on the failures of a handler."""

    async def handle(data: bytes) -> None: ...

    router = Router()
    router.subscribe("in", "g")(handle)
    (subscription,) = router.subscriptions
    policy = Retries(**choices).over(settings)
    return Recovery(subscription, policy, settings, StreamNames(), "")


async def test_what_turns_out_to_be_too_large_to_wait_is_handled_again() -> None:
    """The limit of the topic was not known yet: the service stopped at the second write."""
    mailer, message = Refusing(), IncomingMessage(record(), "in")
    refusing: Any = mailer
    recovery = recovery_of(RetrySettings(attempts=1), later=(60,))

    with pytest.raises(Defer):
        await recovery.fail(message, ValueError("once"), refusing)
    assert recovery.unsent_streams == {"retry.g.60"}
    mailer.error = MessageTooLargeError("too large", topic="retry.g.60")

    assert not await recovery.is_settled(message, refusing)
    with pytest.raises(Defer):
        await recovery.fail(message, ValueError("twice"), refusing)
    assert recovery.unsent_streams == {"dlq.g.in"}


async def test_after_a_seek_a_record_with_an_unwritten_letter_is_handled_again() -> None:
    """Its old letter was written instead."""
    mailer = Refusing()
    refusing: Any = mailer
    recovery = recovery_of(RetrySettings(attempts=1))
    before, after = (IncomingMessage(record(), "in", 1, epoch) for epoch in (1, 2))

    with pytest.raises(Defer):
        await recovery.fail(before, ValueError("once"), refusing)
    with pytest.raises(Defer):
        await recovery.is_settled(before, refusing)
    is_settled = await recovery.is_settled(after, refusing)

    assert not is_settled
    assert mailer.asked == 2
    assert recovery.unsent_streams == set()
