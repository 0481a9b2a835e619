"""Writing dead letters: what health says of a stream that takes none."""

from __future__ import annotations

import asyncio
from typing import Any

from kafkaesk_core import BrokerUnreachableError, RecordMetadata
from kafkaesk_retry.letter import Origin, Postponed
from kafkaesk_retry.mailer import PATIENCE, Mailer
from kafkaesk_retry.places import Place
from kafkaesk_testing import eventually

PARCEL = Postponed(Origin(Place("in", 0, 1)), "g", None, b"x", [], None)


class Cluster:
    """What a mailer uses of an application; `answers` end its writes, in turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answers: list[asyncio.Future[RecordMetadata]] = []
        self.refusal: Exception | None = None

    def mailer(self) -> Mailer:
        app: Any = self
        return Mailer(app, "", "kafka", 60, lambda: self.now)

    async def forward(self, *_: Any, **__: Any) -> asyncio.Future[RecordMetadata]:
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    async def ensure_topic(self, topic: str, **_: Any) -> int | None:
        if self.refusal is not None:
            raise self.refusal
        return 1


async def begin(mailer: Mailer, cluster: Cluster) -> asyncio.Task[RecordMetadata | None]:
    count = len(cluster.answers)
    sending = asyncio.create_task(mailer.send("retry.g.60", PARCEL))
    await eventually(lambda: len(cluster.answers) > count)
    return sending


async def test_a_write_without_an_answer_is_told_before_it_fails() -> None:
    cluster = Cluster()
    mailer = cluster.mailer()

    first = await begin(mailer, cluster)
    cluster.now = PATIENCE
    second = await begin(mailer, cluster)
    assert mailer.troubles() == {}
    cluster.now = 2 * PATIENCE + 1
    assert mailer.troubles() == {"retry.g.60": "no answer for 11 seconds"}, "the longest"
    for answer in cluster.answers:
        answer.set_exception(BrokerUnreachableError("gone"))
    await asyncio.wait([first, second])

    assert mailer.troubles() == {"retry.g.60": "BrokerUnreachableError: gone"}


async def test_a_topic_that_is_made_in_the_end_is_no_trouble_but_a_refusal_stays() -> None:
    cluster = Cluster()
    mailer = cluster.mailer()
    cluster.refusal = BrokerUnreachableError("no right")

    assert not await mailer.prepare("dlq.g.in")
    sending = await begin(mailer, cluster)
    cluster.answers[0].set_exception(BrokerUnreachableError("gone"))
    assert await sending is None
    assert set(mailer.troubles()) == {"dlq.g.in", "retry.g.60"}
    cluster.refusal = None
    assert await mailer.prepare("dlq.g.in")
    assert await mailer.prepare("retry.g.60"), "it is there"

    assert set(mailer.troubles()) == {"retry.g.60"}, "and still takes nothing"
