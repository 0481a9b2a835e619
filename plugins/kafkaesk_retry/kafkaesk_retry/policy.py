"""The policy for failed records: the attempts, the waits between them, and the end."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from kafkaesk_core import (
    BatchFailure,
    ConfigurationError,
    DecodeError,
    InvalidMessageError,
    UnknownSchemaError,
)

if TYPE_CHECKING:
    from .settings import RetrySettings

__all__ = ["OPTION", "Policy", "Retries", "Verdict", "leaves", "retries"]

OPTION = "retry"
"""The name of the plugin's option at `subscribe`."""

OWN_FAULT = (DecodeError, InvalidMessageError, UnknownSchemaError)
"""No later attempt can succeed: the record itself is wrong."""

Verdict = Literal["again", "later", "dead", "pass"]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """The retries of one handler's records; None stands for the plugin's setting.

    A record is handled up to `attempts` times. Between attempts it waits a random time of at most
    `first` seconds, then `first * factor`, and so on up to `most`. The errors in `give_up_on` end
    the attempts at once. `later` lists the seconds of further waits in a topic, with one attempt
    after each. In an ordered subscription, other records overtake a record that waits in a topic;
    `reorder=True` allows this. After the last attempt the record becomes a dead letter; with
    `dead_letter=False`, the subscription's `on_error` decides. `bisect=False` is for batch handlers
    that must not be called for a part of a batch.

    Raises:
        ConfigurationError: a value is invalid; the error names it.
    """

    attempts: int | None = None
    first: float | None = None
    factor: float | None = None
    most: float | None = None
    give_up_on: tuple[type[Exception], ...] = ()
    later: tuple[float, ...] = ()
    reorder: bool = False
    dead_letter: bool | None = None
    bisect: bool | None = None

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ConfigurationError(f"Retries({problem}")

    def _problems(self) -> Iterator[str]:
        if self.attempts is not None and not _is_count(self.attempts):
            yield f"attempts={self.attempts!r}): give an integer of 1 or more"
        for name, least in (("first", 0), ("factor", 1), ("most", 0)):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= least):
                yield f"{name}={value!r}): give a number of {least} or more"
        for name in ("dead_letter", "bisect", "reorder"):
            if not isinstance(getattr(self, name), (bool, type(None))):
                yield f"{name}={getattr(self, name)!r}): give True or False"
        yield from self._problems_of_tuples()

    def _problems_of_tuples(self) -> Iterator[str]:
        if not _is_tuple_of(self.give_up_on, _is_exception_class):
            yield (
                f"give_up_on={self.give_up_on!r}): give a tuple of exception classes, "
                "as in give_up_on=(LookupError,)"
            )
        if not _is_tuple_of(self.later, _is_count):
            yield (
                f"later={self.later!r}): give a tuple of whole seconds, each 1 or more, "
                "as in later=(60, 600)"
            )
        elif len(set(self.later)) < len(self.later):
            yield f"later={self.later!r}): each time needs a topic of its own, so none may repeat"

    def over(self, settings: RetrySettings) -> Policy:
        """Return these choices, with the settings as defaults."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = {
            name: getattr(settings, name) if value is None else value
            for name, value in given.items()
        }
        return Policy(**chosen)


def retries(*misplaced: object, **choices: Any) -> Callable[[F], F]:  # Any: fields of Retries
    """Set the retries of a handler's records, as a decorator below `@app.subscribe`.

    Raises:
        ConfigurationError: a choice is unknown, has no name, or has an invalid value.
    """
    from kafkaesk_core.plugin import set_option

    known = [field.name for field in fields(Retries)]
    if misplaced:
        raise ConfigurationError(
            f"@retries takes choices by name, as in @retries(attempts=3), got {misplaced[0]!r}"
        )
    if unknown := sorted(choices.keys() - set(known)):
        raise ConfigurationError(f"@retries has no {unknown[0]!r}; known: {', '.join(known)}")
    chosen = Retries(**choices)

    return lambda func: set_option(func, OPTION, chosen)


@dataclass(frozen=True, slots=True)
class Policy:
    """The complete policy of one handler."""

    attempts: int
    first: float
    factor: float
    most: float
    give_up_on: tuple[type[Exception], ...]
    later: tuple[float, ...]
    reorder: bool
    dead_letter: bool
    bisect: bool

    @property
    def is_off(self) -> bool:
        """Whether the plugin leaves failures alone."""
        return self.attempts == 1 and not self.dead_letter and not self.later

    def is_own_fault(self, error: BaseException) -> bool:
        """Whether no later attempt can succeed: the record is invalid, or the policy says so."""
        hopeless = (*OWN_FAULT, *self.give_up_on)
        found = list(leaves(error))
        return any(isinstance(one, self.give_up_on) for one in found) or all(
            isinstance(one, hopeless) for one in found
        )

    def judge(self, error: BaseException, attempt: int, rounds: int = 0) -> Verdict:
        """Decide on a record after a failed attempt; it has waited in a topic `rounds` times."""
        if self.is_own_fault(error):
            return self._last_resort()
        if attempt < self.attempts:
            return "again"
        return "later" if rounds < len(self.later) else self._last_resort()

    def _last_resort(self) -> Verdict:
        return "dead" if self.dead_letter else "pass"

    def longest_delay(self, attempt: int) -> float:
        """Return the maximum of the seconds between this attempt and the next one."""
        try:
            return min(self.most, self.first * self.factor ** (attempt - 1))
        except OverflowError:
            return self.most

    def delay(self, attempt: int) -> float:
        """Return the seconds between this attempt and the next one, with full jitter."""
        return random.uniform(0, self.longest_delay(attempt))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group or a BatchFailure, at any depth, or the error itself."""
    inner: Any = ()
    if isinstance(error, BaseExceptionGroup):
        inner = error.exceptions
    elif isinstance(error, BatchFailure):
        inner = error.errors.values()
    if not inner:
        yield error
    for one in inner:
        yield from leaves(one)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) if isinstance(value, (int, float)) else False


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _is_tuple_of(value: object, is_right: Callable[[object], bool]) -> bool:
    return isinstance(value, tuple) and all(map(is_right, value))
