"""A workload: the records, and the processes that publish and handle them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

__all__ = ["ATTEMPTS", "Order", "Task", "Workload"]

ATTEMPTS = 3
"""The attempts of a record that no attempt can handle, until it is a dead letter."""

Library = Literal["kafkaesk", "kafkaesk-0.8", "faststream"]


@dataclass(frozen=True, slots=True)
class Workload:
    """One topic, one group, and the processes on both sides; times in seconds.

    Each record is handled for a random time between the two values of `handling`. `retried` is the
    share of records that request another attempt. `dying` is the share of records that no attempt
    can handle; kafkaesk-retry makes them dead letters. With `is_pattern`, members subscribe to all
    topics that begin with the topic's name; with `steps_clock`, their wall clock jumps by an hour.
    With `commits_by_hand`, a handler commits its record; with `answers`, it publishes a message.
    With `starts_at_end`, a group without a commit starts at the end of its topics. `kafka_settings`
    are for the members and `tuning` for their Application; `publisher_settings` and `publishing`
    are for the publisher.
    """

    name: str
    ordering: Literal["partition", "key", "unordered"] = "partition"
    partitions: int = 6
    workers: int = 3
    concurrency: int | None = None
    keys: int = 97
    rate: int = 1000  # records per second
    handling: tuple[float, float] = (0.0, 0.002)
    retried: float = 0.0
    dying: float = 0.0
    is_batched: bool = False
    is_pattern: bool = False
    steps_clock: bool = False
    commits_by_hand: bool = False
    answers: bool = False
    starts_at_end: bool = False
    kafka_settings: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    publishing: Mapping[str, Any] = field(default_factory=dict)
    publisher_settings: Mapping[str, Any] = field(default_factory=dict)
    library: Library = "kafkaesk"

    @property
    def has_order(self) -> bool:
        """Whether records must be handled in order."""
        return self.ordering != "unordered"


@dataclass(frozen=True, slots=True)
class Task:
    """The task of one process, in a JSON file; `number` counts the processes of its kind."""

    workload: Workload
    servers: tuple[str, ...]
    topic: str
    journal: str
    seed: int
    number: int = 0

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: str) -> Self:
        """Read the file."""
        values = json.loads(Path(path).read_text())
        workload = values.pop("workload")
        workload["handling"] = tuple(workload["handling"])
        values["servers"] = tuple(values["servers"])
        return cls(Workload(**workload), **values)

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.topic}-readers"


@dataclass(frozen=True, slots=True)
class Order:
    """One record: its number among all and among its key's records, and how to handle it.

    `do` is empty, or one of: "sleep:SECONDS"; "stubborn:SECONDS", cancelled or not;
    "block:SECONDS", of the event loop, once; "fail:SECONDS", after so long, once; "retry";
    "die", at each attempt.
    """

    id: int
    key: int
    seq: int
    do: str = ""

    def encode(self) -> bytes:
        """Return the value on the wire: the envelope of the schema Order:1."""
        data = f'{{"id":{self.id},"key":{self.key},"seq":{self.seq},"do":"{self.do}"}}'
        return f'{{"schema":"Order:1","data":{data}}}'.encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read an order from the value."""
        return cls(**json.loads(value)["data"])
