"""Assignments and revocations, as aiokafka reports them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition

if TYPE_CHECKING:
    from .consumer import GroupMember

__all__ = ["Listener", "RebalanceHandler", "await_settled"]

logger = logging.getLogger("kafkaesk.kafka")


class RebalanceHandler(Protocol):
    """Reacts to rebalances; aiokafka's coordination task calls it."""

    async def revoked(self, partitions: frozenset[TopicPartition], *, is_lost: bool) -> None:
        """Release these partitions; no other member gets them before this returns."""

    def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Start reading these partitions; no heartbeat is sent before this returns."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Logs all exceptions but process exits: one that escaped would end aiokafka's coordination."""

    def __init__(self, member: GroupMember, handler: RebalanceHandler) -> None:
        self._member = member
        self._handler = handler

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Report the revocation before the group gives the partitions to other members."""
        if not self._member.is_started:
            return
        # aiokafka also calls this after the session has expired; the generation shows which it is.
        is_lost = not self._member.is_stable
        try:
            await self._handler.revoked(frozenset(revoked), is_lost=is_lost)
        except BaseException as error:
            _keep(error)
        finally:
            self._member.forget_membership()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Report the assignment before the first heartbeat."""
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


def await_settled(consumer: AIOKafkaConsumer) -> None:
    """Let a consumer that is not started yet keep waiting when an assignment is withdrawn.

    A new topic changes what a pattern matches, and so withdraws an assignment that has just been
    made. aiokafka's fetcher was woken for that assignment and runs one step of the loop later: it
    takes a missing assignment for impossible, and ends for good.
    """
    consumer._subscription = _Settled()


class _Settled(SubscriptionState):  # type: ignore[misc]  # aiokafka is untyped
    async def wait_for_assignment(self) -> None:
        """Wait for the next assignment; it still exists when this returns, in the same step."""
        while True:
            await super().wait_for_assignment()
            subscription = self.subscription
            if subscription is not None and subscription.assignment is not None:
                return
