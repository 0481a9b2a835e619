"""The silence of a broker is noticed, and a client that is stuck given up (rules 32, 33; K44)."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.consumer.health import SILENCE, Freshness, HealthTicker

A, B = TopicPartition("topic", 0), TopicPartition("topic", 1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def look(freshness: Freshness, stamps: dict[TopicPartition, int], wanted: set[Any]) -> None:
    freshness.look(list(stamps), wanted, stamps.get)


@pytest.mark.rule_32
def test_a_partition_whose_stamp_stands_still_is_silent() -> None:
    clock = Clock()
    freshness = Freshness(clock)

    look(freshness, {A: 1, B: 1}, {A, B})
    clock.now += 6
    look(freshness, {A: 2, B: 1}, {A, B})
    clock.now += 6

    assert freshness.silent(10) == [B]
    assert freshness.silent(5) == [A, B]


def test_a_partition_that_is_not_fetched_is_not_silent() -> None:
    clock = Clock()
    freshness = Freshness(clock)

    for _ in range(5):
        look(freshness, {A: 1}, set())
        clock.now += 6

    assert freshness.silent(10) == []


def test_a_partition_given_up_and_assigned_again_starts_anew() -> None:
    clock = Clock()
    freshness = Freshness(clock)

    look(freshness, {A: 1}, {A})
    clock.now += 20
    look(freshness, {}, set())
    look(freshness, {A: 1}, {A})

    assert freshness.silent(10) == []


class Member:
    """Tells stamps; notes why it was given up."""

    is_started = True

    def __init__(self) -> None:
        self.last_metadata = 0.0
        self.reasons: list[str] = []

    def break_off(self, reason: Exception) -> None:
        self.reasons.append(str(reason))


class Group:
    """Stands for a membership and its health."""

    def __init__(self, clock: Clock) -> None:
        self.member = Member()
        self.freshness = Freshness(clock)


def watch_of(group: Group) -> HealthTicker:
    membership: Any = group
    topics: Any = None
    return HealthTicker(membership, [], topics, membership, patience=120, metadata_age=60)


def seconds(clock: Clock, watch: HealthTicker, count: int) -> None:
    for _ in range(count):
        clock.now += 1
        watch._look_for_silence(clock.now)


@pytest.mark.rule_33
def test_a_stuck_client_is_given_up_though_brokers_answer() -> None:
    clock = Clock()
    group = Group(clock)
    watch = watch_of(group)
    look(group.freshness, {A: 1}, {A})

    for _ in range(2):
        group.member.last_metadata += 1
        seconds(clock, watch, 60)
    assert group.member.reasons == []
    seconds(clock, watch, 1)

    assert group.member.reasons == ["no answer about topic[0] for 120 s, although brokers answer"]


@pytest.mark.f17
def test_an_outage_of_all_brokers_gives_nobody_up() -> None:
    """Nor does its end, when the metadata comes a moment before the records."""
    clock = Clock()
    group = Group(clock)
    watch = watch_of(group)
    group.member.last_metadata += 1
    seconds(clock, watch, 1)
    look(group.freshness, {A: 1}, {A})

    seconds(clock, watch, 600)
    group.member.last_metadata += 1
    seconds(clock, watch, int(SILENCE) - 1)

    assert group.member.reasons == []
