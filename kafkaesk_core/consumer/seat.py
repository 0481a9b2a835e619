"""This application's seat in a group: one member at a time, replaced when it is broken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from kafkaesk_core.errors import BrokerUnreachableError, KafkaeskError, NotRunningError
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.kafka.consumer import GroupMember, MemberBroken, MemberRefused
from kafkaesk_core.kafka.errors import translate
from kafkaesk_core.kafka.rebalancing import RebalanceHandler

from .commits import Offsets

__all__ = ["CLOSE_TIMEOUT", "LEAVE_TIMEOUT", "Seat"]

logger = logging.getLogger("kafkaesk.consumer")

LEAVE_TIMEOUT, CLOSE_TIMEOUT = 3.0, 5.0
PAUSES = (1, 2, 4, 8, 16, 30, 30, 30)
"""Seconds before each new member; after the last one the application stops."""


class Seat:
    """Holds the present member, which subscribes to `pattern` and tells `handler`."""

    def __init__(
        self,
        group: str,
        new_member: Callable[[], GroupMember],
        pattern: str,
        start_timeout: float,
        *,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._group = group
        self._new_member = new_member
        self._pattern = pattern
        self._start_timeout = start_timeout
        self._pauses = pauses
        self._handler: RebalanceHandler | None = None
        self._replaced = 0  # since the group last gave us an assignment
        self._was_joined = False
        self._closed = asyncio.Event()
        self.member = new_member()

    async def start(self, handler: RebalanceHandler, timeout: float) -> None:
        """Connect and ask to join.

        Raises:
            BrokerError: no broker answered in `timeout` seconds, or it refused us.
        """
        self._handler = handler
        await self.member.start(self._pattern, handler, timeout)

    def joined(self) -> None:
        """The group has given us an assignment: the member works."""
        self._was_joined = True
        self._replaced = 0

    async def replace(self, broken: MemberBroken) -> None:
        """Become another member: this one never works again (rule 33).

        Returns early once the seat is closed, which each step looks at: a cancellation may be
        swallowed by the client, and what starts after a stop would be a member for ever.

        Raises:
            KafkaeskError: it never worked, or too many of them did not.
        """
        cause = self.reason(broken)
        if not self._was_joined:
            raise cause from broken.__cause__
        while self._replaced < len(self._pauses):
            pause = self._pauses[self._replaced]
            self._replaced += 1
            logger.error("%s; joining the group again in %g seconds", cause, pause)
            await self.member.stop(LEAVE_TIMEOUT)
            if await self._is_closed_within(pause):
                return
            self.member = self._new_member()
            try:
                await self._join()
            except BrokerUnreachableError as error:
                cause = error
            except NotRunningError:
                return
            else:
                return
        raise cause from broken.__cause__

    async def _is_closed_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        return self._closed.is_set()

    @property
    def is_closed(self) -> bool:
        """Whether the group is being left for good."""
        return self._closed.is_set()

    def close(self) -> None:
        """Let no further member start."""
        self._closed.set()

    async def stop(self, timeout: float) -> None:
        """Close, and let the present member leave, in `timeout` seconds and a moment."""
        self.close()
        await self.member.stop(timeout)

    async def _join(self) -> None:
        if self._handler is not None:
            await self.member.start(self._pattern, self._handler, self._start_timeout)

    def reason(self, problem: MemberBroken | MemberRefused) -> KafkaeskError:
        """Why a member does not work, as an error of ours."""
        return translate(problem.__cause__ or problem, f"group {self._group}: membership")

    async def commit(self, offsets: Offsets, timeout: float) -> CommitResult:
        """Store offsets as the present member."""
        return await self.member.commit(offsets, timeout)
