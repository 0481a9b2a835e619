"""What aiokafka's coordination calls when partitions come and go."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Protocol

from aiokafka import ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

__all__ = ["Listener", "RebalanceHandler"]

logger = logging.getLogger("kafkaesk.kafka")


class RebalanceHandler(Protocol):
    """Told of rebalances, on aiokafka's coordination task."""

    async def revoked(self, partitions: frozenset[TopicPartition], *, is_lost: bool) -> None:
        """Give these partitions up; no other member has them before this returns."""

    def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Start with these partitions; no heartbeat is sent before this returns."""


class Membership(Protocol):
    """Knows whether we still are the member that partitions were assigned to."""

    @property
    def is_started(self) -> bool:
        """Whether it has not been stopped; a stop hands over before it leaves."""

    @property
    def is_stable(self) -> bool:
        """Whether we are."""

    def note_membership(self) -> None:
        """Partitions have just been assigned."""

    def forget_membership(self) -> None:
        """Partitions were given up."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Keeps everything but process exits inside: what escapes ends aiokafka's coordination."""

    def __init__(self, member: Membership, handler: RebalanceHandler) -> None:
        self._member = member
        self._handler = handler

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Pass it on, before the group gives the partitions to others."""
        if not self._member.is_started:
            return
        # aiokafka calls this also when the session is over already: the generation tells.
        is_lost = not self._member.is_stable
        try:
            await self._handler.revoked(frozenset(revoked), is_lost=is_lost)
        except BaseException as error:
            _keep(error)
        finally:
            self._member.forget_membership()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Pass it on, before the first heartbeat."""
        if not self._member.is_started:
            return
        try:
            self._member.note_membership()
            self._handler.assigned(frozenset(assigned))
        except BaseException as error:
            _keep(error)


def _keep(error: BaseException) -> None:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    logger.error("rebalance handling failed", exc_info=error)
