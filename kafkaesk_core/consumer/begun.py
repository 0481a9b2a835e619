"""Records that run alone: a stored commit blames the record if the process crashes now.

Such a commit is right only if the process really ends while the record runs. A handover withdraws
it. A process that has lost its membership cannot withdraw it and keeps running, so it remembers the
commit, and corrects the count when it reads the note again.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.structs import TopicPartition

from .attempts import Attempt

__all__ = ["Begun", "BegunRecords"]

Begun = tuple[int, Attempt]
"""The offset of a running record, and its attempt if the process crashes now."""


class BegunRecords:
    """The running record of each partition, and earlier records that brokers may still blame.

    Crashes count only while `is_counting`; it is false once handlers are about to be cancelled.
    """

    def __init__(self) -> None:
        self.is_counting = False
        self._now: dict[TopicPartition, Begun] = {}
        # By offset, the crashes that were sent and may not be withdrawn yet: any commit without an
        # answer may be the stored one.
        self._said: dict[TopicPartition, dict[int, int]] = {}
        self._survived: dict[TopicPartition, dict[int, int]] = {}  # crashes that did not happen

    def begin(self, partition: TopicPartition, offset: int, attempt: int, crashes: int) -> None:
        """Note that a record starts to run alone: a crash would count as its attempt."""
        if self.is_counting:
            self._now[partition] = (offset, Attempt(attempt + 1, crashes=crashes + 1))

    def end(self, partition: TopicPartition) -> None:
        """Note that the record has ended and the process has survived it."""
        self._now.pop(partition, None)

    def stop_counting(self) -> None:
        """Stop counting crashes until the next assignment: handlers are about to be cancelled."""
        self.is_counting = False
        self._now.clear()

    def get(self, partition: TopicPartition) -> Begun | None:
        """Return the running record of a partition."""
        return self._now.get(partition)

    @property
    def topics(self) -> set[str]:
        """The topics for which a commit may say that a record has begun."""
        return {partition.topic for partition in self._said}

    def note_sent(self, partition: TopicPartition, begun: Begun | None) -> None:
        """Note that this commit is being sent: the broker may store it without answering."""
        if begun is not None:
            offset, attempt = begun
            said = self._said.setdefault(partition, {})
            said[offset] = min(attempt.crashes, said.get(offset, attempt.crashes))

    def note_stored(self, partition: TopicPartition, begun: Begun | None) -> None:
        """Note that the broker has stored this commit."""
        self._survived.pop(partition, None)
        self._said.pop(partition, None)
        self.note_sent(partition, begun)

    def forget(self, partition: TopicPartition, *, is_gone: bool) -> None:
        """Forget a partition's running record: the partition is gone, or its position changed."""
        self._now.pop(partition, None)
        if is_gone and (said := self._said.pop(partition, None)) is not None:
            self._survived.setdefault(partition, {}).update(said)

    def corrected(
        self, partition: TopicPartition, attempts: Mapping[int, Attempt]
    ) -> Mapping[int, Attempt]:
        """Return the attempts in a partition's note, without crashes that this process survived."""
        found = dict(attempts)
        for offset, crashes in self._survived.get(partition, {}).items():
            attempt = found.get(offset)
            if attempt is not None and attempt.crashes >= crashes:
                found[offset] = attempt._replace(
                    number=max(attempt.number - 1, 1), crashes=attempt.crashes - 1
                )
        return found
