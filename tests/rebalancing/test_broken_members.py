"""A broken member is replaced by another one, but not for ever (rule 33)."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from kafkaesk_core.consumer.membership import Membership
from kafkaesk_core.errors import AuthorizationError, BrokerUnreachableError
from kafkaesk_core.kafka.consumer import MemberBroken


class Member:
    """Notes that it was started and stopped."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def start(self, pattern: str, handler: Any, timeout: float) -> None:
        self.calls.append(f"start {pattern}")

    async def stop(self, timeout: float) -> None:
        self.calls.append("stop")


def seat_with(members: list[Member], pauses: tuple[float, ...] = (0, 0)) -> Membership:
    def new_member() -> Any:
        members.append(Member())
        return members[-1]

    return Membership("group", new_member, "^orders$", 5.0, pauses=pauses)


def broken() -> MemberBroken:
    error = MemberBroken()
    error.__cause__ = GroupAuthorizationFailedError("group")
    return error


@pytest.mark.k53
async def test_a_broken_member_is_stopped_and_another_one_started() -> None:
    """A member that lost its right to the group never works again by itself."""
    members: list[Member] = []
    membership = seat_with(members)
    handler: Any = object()
    await membership.start(handler, 1.0)
    membership.joined()

    await membership.replace(broken())

    assert members[0].calls == ["start ^orders$", "stop"]
    assert members[1].calls == ["start ^orders$"]
    present: Any = membership.member
    assert present is members[1]


async def test_a_member_that_never_worked_stops_the_start_with_the_cause() -> None:
    membership = seat_with([])

    with pytest.raises(AuthorizationError, match="group group: membership"):
        await membership.replace(broken())


async def test_an_outage_while_a_member_is_replaced_is_one_more_try() -> None:
    members: list[Member] = []
    membership = seat_with(members, pauses=(0, 0, 0))
    handler: Any = object()
    await membership.start(handler, 1.0)
    membership.joined()
    failures = [BrokerUnreachableError("away"), BrokerUnreachableError("still away")]

    class Unreachable(Member):
        async def start(self, pattern: str, handler: Any, timeout: float) -> None:
            if failures:
                raise failures.pop()
            await super().start(pattern, handler, timeout)

    def new_member() -> Any:
        members.append(Unreachable())
        return members[-1]

    membership._new_member = new_member

    await membership.replace(broken())

    assert [member.calls for member in members[1:]] == [["stop"], ["stop"], ["start ^orders$"]]


async def test_after_too_many_members_in_a_row_the_application_stops() -> None:
    membership = seat_with([])
    membership.joined()
    await membership.replace(broken())
    await membership.replace(broken())

    with pytest.raises(AuthorizationError):
        await membership.replace(broken())


async def test_a_member_that_has_joined_starts_the_count_again() -> None:
    members: list[Member] = []
    membership = seat_with(members)

    for _ in range(5):
        membership.joined()
        await membership.replace(broken())

    assert len(members) == 6
