"""What becomes of a failed record: pure decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kafkaesk_core import (
    BatchFailure,
    ConfigurationError,
    DecodeError,
    InvalidMessageError,
    UnknownSchemaError,
)
from kafkaesk_retry import Retries, RetrySettings, retries
from kafkaesk_retry.policy import Policy


def policy(**choices: Any) -> Policy:
    return Retries(**choices).over(RetrySettings())


def test_without_choices_the_settings_hold() -> None:
    found = Retries().over(RetrySettings(attempts=3, dead_letter=False))

    assert (found.attempts, found.dead_letter) == (3, False)


def test_a_choice_wins_over_the_setting_also_where_it_is_false() -> None:
    found = Retries(attempts=1, first=0, dead_letter=False).over(RetrySettings())

    assert (found.attempts, found.first, found.dead_letter) == (1, 0, False)
    assert found.is_off


def test_the_longest_delay_doubles_up_to_the_most() -> None:
    found = policy(first=0.5, factor=2, most=30)

    assert [found.longest_delay(n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert found.longest_delay(100_000) == 30


def test_the_delay_is_anything_between_nothing_and_the_longest() -> None:
    found = policy(first=8, factor=1)

    delays = [found.delay(1) for _ in range(1000)]

    assert min(delays) < 1 < 7 < max(delays) <= 8


@pytest.mark.parametrize(
    ("error", "attempt", "verdict"),
    [
        (KeyError("x"), 1, "again"),
        (KeyError("x"), 4, "again"),
        (KeyError("x"), 5, "dead"),
        (KeyError("x"), 6, "dead"),
        (DecodeError("no JSON"), 1, "dead"),
        (InvalidMessageError("no number"), 1, "dead"),
        (UnknownSchemaError("Order:9"), 1, "dead"),
        (LookupError("no such customer"), 1, "dead"),
        (TimeoutError(), 1, "again"),
        (ExceptionGroup("two", [KeyError("x"), DecodeError("y")]), 1, "dead"),
        (ExceptionGroup("two", [ValueError("x"), DecodeError("y")]), 1, "again"),
        (ExceptionGroup("two", [ExceptionGroup("in", [DecodeError("y")])]), 1, "dead"),
        (BatchFailure({0: DecodeError("y")}), 1, "dead"),
    ],
    ids=repr,
)
def test_a_records_own_fault_ends_its_attempts(
    error: Exception, attempt: int, verdict: str
) -> None:
    """An error in `give_up_on` says so itself; KeyError is a LookupError."""
    given_up = (LookupError,) if verdict == "dead" and attempt == 1 else ()

    assert policy(give_up_on=given_up).judge(error, attempt) == verdict


def test_without_dead_letters_the_subscription_decides() -> None:
    found = policy(dead_letter=False, attempts=2)

    assert found.judge(ValueError(), 1) == "again"
    assert found.judge(ValueError(), 2) == "pass"
    assert found.judge(DecodeError(""), 1) == "pass"


def test_a_record_waits_once_in_each_topic_before_it_is_dead() -> None:
    found = policy(attempts=1, later=(60, 600))

    assert [found.judge(ValueError(), 1, rounds) for rounds in range(3)] == [
        "later",
        "later",
        "dead",
    ]
    assert found.judge(DecodeError(""), 1) == "dead"


async def use_nothing(data: bytes) -> None:
    """A handler that is decorated with `@retries`, without parentheses."""


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda: Retries(attempts=0), "attempts=0"),
        (lambda: Retries(attempts=True), "attempts=True"),
        (lambda: Retries(first=-1), "first=-1"),
        (lambda: Retries(factor=0.5), "factor=0.5"),
        (lambda: Retries(most=float("nan")), "most=nan"),
        (lambda: Retries(give_up_on=KeyError), "give_up_on=<class 'KeyError'>"),  # type: ignore[arg-type]  # wrong
        (lambda: Retries(give_up_on=(KeyboardInterrupt,)), "give_up_on="),  # type: ignore[arg-type]  # wrong
        (lambda: Retries(later=60), "later=60"),  # type: ignore[arg-type]  # wrong
        (lambda: Retries(later=(60, 60)), "none may repeat"),
        (lambda: Retries(dead_letter="no"), "dead_letter='no'"),  # type: ignore[arg-type]  # wrong
        (lambda: retries(attemps=3), "@retries has no 'attemps'"),
        (
            lambda: retries(use_nothing),
            "@retries takes choices by name, as in @retries(attempts=3)",
        ),
        (lambda: retries(3), "got 3"),
    ],
)
def test_a_wrong_choice_is_refused_where_it_is_made(use: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match="etries") as refused:
        use()

    assert told in str(refused.value)
