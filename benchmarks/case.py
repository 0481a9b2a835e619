"""The cases to compare: their contestants and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CASES", "Case", "Contestant", "Target"]


@dataclass(frozen=True)
class Contestant:
    """A contestant of a case: its module, job and options, and its differences from the others."""

    name: str
    module: str
    job: str
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    root: Path | None = None
    """The tree to run in, if it is not this one."""

    @property
    def is_ours(self) -> bool:
        """Whether the contestant is this library."""
        return self.module == "ours"


@dataclass(frozen=True)
class Target:
    """A target: ours should be `factor` times as fast as another, by processor time."""

    over: str
    embedded: float
    kafka: float

    def factor(self, bed: str) -> float:
        """Return the target factor on a bed."""
        return self.embedded if bed == "embedded" else self.kafka


@dataclass(frozen=True)
class Case:
    """Contestants with the same work; the first is ours, the second the control."""

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    targets: tuple[Target, ...]
    is_quick: bool = False

    @property
    def consumes(self) -> bool:
        """Whether the topic must be filled first."""
        return self.contestants[0].job.startswith("consume")


RAW = "aiokafka"
COLLECTOR = [5000, 20, 20]


def _publish(name: str, title: str, targets: tuple[Target, ...], **options: Any) -> Case:
    """Return ours and the control, which never validates."""
    shared = {key: value for key, value in options.items() if key not in ("validate", "layers")}
    ours = Contestant("kafkaesk", "ours", "publish", options)
    return Case(name, title, (ours, Contestant(RAW, "raw", "publish", shared)), targets)


def _with_peers(case: Case, *peers: Contestant, is_quick: bool = False) -> Case:
    return Case(case.name, case.title, (*case.contestants, *peers), case.targets, is_quick)


BATCHES = Contestant(
    "aiokafka, batches", "raw", "publish_batches", note="create_batch and send_batch by hand"
)
CONFLUENT = Contestant("confluent-kafka", "confluent", "publish", note="in C, no asyncio")

CASES = (
    _with_peers(
        _publish(
            "publish",
            "publish, one call after the other, no key, models trusted",
            (Target(RAW, 2.3, 2.2),),
            validate=False,
        ),
        BATCHES,
        Contestant("kafkaesk 0.8.7", "kafkaesk08", "publish", note="acks=1, not idempotent"),
        Contestant("FastStream 0.7", "faststream07", "publish"),
        CONFLUENT,
        is_quick=True,
    ),
    _publish(
        "publish-validated",
        "the same, models validated (the default); aiokafka validates nothing",
        (Target(RAW, 1.8, 1.8),),
    ),
    _publish(
        "publish-keyed",
        "the same, with one of a hundred keys, models trusted",
        (Target(RAW, 1.5, 1.5),),
        validate=False,
        keyed=True,
    ),
    _publish(
        "publish-ticks",
        "publish, one message per tick of the event loop, models trusted",
        (Target(RAW, 0.9, 0.9),),
        validate=False,
        ticks=True,
    ),
    *(
        _publish(
            f"publish-layers-{count}",
            f"publish, layers of plugins around each message: {count}, models trusted",
            (),
            validate=False,
            layers=count,
        )
        for count in (1, 3)
    ),
    Case(
        "publish-many",
        "publish_many, models trusted",
        (
            Contestant("kafkaesk", "ours", "publish_many", {"validate": False}),
            Contestant(RAW, "raw", "publish"),
            BATCHES,
            CONFLUENT,
        ),
        (Target(RAW, 3.0, 3.0),),
        is_quick=True,
    ),
    Case(
        "publish-many-validated",
        "publish_many, models validated",
        (
            Contestant("kafkaesk", "ours", "publish_many"),
            Contestant(RAW, "raw", "publish"),
        ),
        (Target(RAW, 2.2, 2.2),),
    ),
    Case(
        "consume",
        "a handler of a model, one by one, in the order of each partition",
        (
            Contestant("kafkaesk", "ours", "consume"),
            Contestant(RAW, "raw", "consume", note="getmany and validation, no commits"),
            Contestant("aiokafka, bytes", "raw", "consume_bytes", note="getmany alone"),
            Contestant("kafkaesk 0.8.7", "kafkaesk08", "consume", {"concurrency": 1}),
            Contestant(
                "kafkaesk 0.8.7, 100 at once", "kafkaesk08", "consume", {"concurrency": 100}
            ),
            Contestant("FastStream 0.7", "faststream07", "consume", note="commits by itself"),
            Contestant("confluent-kafka", "confluent", "consume", note="in C, no validation"),
        ),
        (
            Target(RAW, 0.87, 0.87),
            Target("FastStream 0.7", 8, 8),
            Target("kafkaesk 0.8.7, 100 at once", 4, 4),
        ),
        is_quick=True,
    ),
    Case(
        "consume-batch",
        "a handler of a list of models",
        (
            Contestant("kafkaesk", "ours", "consume_batch"),
            Contestant(RAW, "raw", "consume_batch", note="lists of up to 500 too; no commits"),
            Contestant("FastStream 0.7", "faststream07", "consume_batch"),
        ),
        (Target(RAW, 0.8, 0.8), Target("FastStream 0.7", 2.3, 2.3)),
    ),
    Case(
        "consume-batch-collector",
        "the same, both with gc.set_threshold(5000, 20, 20): live models cost collections",
        (
            Contestant("kafkaesk", "ours", "consume_batch", {"collector": COLLECTOR}),
            Contestant(RAW, "raw", "consume_batch", {"collector": COLLECTOR}),
        ),
        (Target(RAW, 0.9, 0.9),),
    ),
    Case(
        "consume-keyless",
        "a handler of a model, in the order of each key: records without a key",
        (
            Contestant("kafkaesk", "ours", "consume", {"ordering": "key", "concurrency": 100}),
            Contestant(RAW, "raw", "consume", note="getmany and validation, no commits"),
        ),
        (Target(RAW, 0.75, 0.75),),
    ),
    Case(
        "consume-keys",
        "the same: records with one of a hundred keys",
        (
            Contestant(
                "kafkaesk",
                "ours",
                "consume",
                {"ordering": "key", "concurrency": 100, "keyed": True},
            ),
            Contestant(RAW, "raw", "consume", {"keyed": True}, "in no order"),
        ),
        (Target(RAW, 0.6, 0.6),),
    ),
)
"""In the order in which they are reported."""
