"""When the breaker opens, what it lets through, and when it closes."""

from __future__ import annotations

from kafkaesk_retry.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker(limit: int = 3, window: float = 60, probe: float = 5) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(limit, window, probe, clock), clock


def test_it_opens_at_the_limit_and_admits_no_more() -> None:
    one, _ = breaker(limit=3)

    assert [one.admits_death() for _ in range(5)] == [True, True, True, False, False]
    assert one.is_open


def test_deaths_older_than_the_window_do_not_count() -> None:
    one, clock = breaker(limit=1, window=60)
    assert one.admits_death()

    clock.now += 60

    assert one.admits_death()


def test_half_of_the_last_hundred_is_too_many_however_slowly_they_die() -> None:
    one, clock = breaker(limit=20, window=60)
    for _ in range(50):
        clock.now += 60
        assert one.admits_death()
        one.succeed()

    assert not one.admits_death()


def test_open_it_lets_one_record_through_in_each_pause() -> None:
    one, clock = breaker(limit=1, probe=5)
    one.admits_death()
    one.admits_death()

    assert one.wait() == 5
    clock.now += 5
    assert one.wait() == 0
    assert one.wait() == 5


def test_a_success_closes_it_and_the_limit_counts_anew() -> None:
    one, _ = breaker(limit=1)
    one.admits_death()
    one.admits_death()

    assert one.succeed()

    assert not one.is_open
    assert one.wait() == 0
    assert one.admits_death()
    assert not one.succeed()


def test_with_the_limit_0_it_never_opens() -> None:
    one, _ = breaker(limit=0)

    assert all(one.admits_death() for _ in range(1000))
