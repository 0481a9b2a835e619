"""Records that are handled alone, and of which a commit has said that a crash would be theirs.

What a commit says of a record that has begun is true only if the process ends then. A handover
takes it back; a process that has lost its membership cannot, and lives on. So it remembers what it
has said, and corrects it when it reads that again.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.structs import TopicPartition

from .attempts import Attempt

__all__ = ["Begun", "BegunRecords"]

Begun = tuple[int, Attempt]
"""The offset of a record that has begun, and its attempt as it is if the process ends now."""


class BegunRecords:
    """The record of each partition that has begun, and what brokers may still say of earlier ones.

    `is_counting` says whether the end of a running handler would be that of the process.
    """

    def __init__(self) -> None:
        self.is_counting = False
        self._now: dict[TopicPartition, Begun] = {}
        # By offset, the crashes that were sent, and are not known to be taken back: of commits that
        # nobody has answered, any may be what is stored.
        self._said: dict[TopicPartition, dict[int, int]] = {}
        self._survived: dict[TopicPartition, dict[int, int]] = {}  # crashes that were none

    def begin(self, partition: TopicPartition, offset: int, attempt: int, crashes: int) -> None:
        """Note that a record is handled alone: a crash would be its own attempt."""
        if self.is_counting:
            self._now[partition] = (offset, Attempt(attempt + 1, crashes=crashes + 1))

    def end(self, partition: TopicPartition) -> None:
        """Note that the record which was handled alone has ended, and the process has not."""
        self._now.pop(partition, None)

    def stop_counting(self) -> None:
        """Count no crash until the next assignment: handlers are about to be cancelled."""
        self.is_counting = False
        self._now.clear()

    def get(self, partition: TopicPartition) -> Begun | None:
        """The record that has begun."""
        return self._now.get(partition)

    @property
    def topics(self) -> set[str]:
        """The topics of which a commit may have said that a record has begun."""
        return {partition.topic for partition in self._said}

    def note_sent(self, partition: TopicPartition, begun: Begun | None) -> None:
        """Note that a commit which says this is on its way: it may be stored without an answer."""
        if begun is not None:
            offset, attempt = begun
            said = self._said.setdefault(partition, {})
            said[offset] = min(attempt.crashes, said.get(offset, attempt.crashes))

    def note_stored(self, partition: TopicPartition, begun: Begun | None) -> None:
        """Note that this is what is stored now."""
        self._survived.pop(partition, None)
        self._said.pop(partition, None)
        self.note_sent(partition, begun)

    def forget(self, partition: TopicPartition, *, is_gone: bool) -> None:
        """Forget the running record of a partition, which is gone or is read from elsewhere."""
        self._now.pop(partition, None)
        if is_gone and (said := self._said.pop(partition, None)) is not None:
            self._survived.setdefault(partition, {}).update(said)

    def corrected(
        self, partition: TopicPartition, attempts: Mapping[int, Attempt]
    ) -> Mapping[int, Attempt]:
        """What was read of a partition, without the crashes that this process has survived."""
        found = dict(attempts)
        for offset, crashes in self._survived.get(partition, {}).items():
            attempt = found.get(offset)
            if attempt is not None and attempt.crashes >= crashes:
                found[offset] = attempt._replace(
                    number=max(attempt.number - 1, 1), crashes=attempt.crashes - 1
                )
        return found
