"""What became of one message: the only thing that ledger, lanes and counters look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import Disposition, Retry, Skip, Stop
from .message import IncomingMessage
from .router import OnError

__all__ = ["DONE", "GIVEN_UP", "Outcome", "leaves", "outcome_of", "unwrapped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Done, skipped, to be retried after `delay` seconds, or the reason to stop.

    "given up": its partition is being handed over, and whoever has it next handles it.

    `kept` is for a batch that is not finished with: the indexes of its items that are not.
    """

    kind: Literal["done", "skip", "retry", "stop", "given up"]
    error: BaseException | None = None
    delay: float = 0.0
    kept: Sequence[int] = ()

    @property
    def is_terminal(self) -> bool:
        """Whether the message is finished with: its offset may be committed."""
        return self.kind in ("done", "skip")


DONE = Outcome("done")
GIVEN_UP = Outcome("given up")


def outcome_of(error: BaseException, on_error: OnError, message: IncomingMessage) -> Outcome:
    """Turn what a handler, or a layer around it, raised into an outcome.

    Dispositions decide themselves. For everything else `on_error` decides; an `on_error` callable
    that raises, or returns no disposition, stops.
    """
    error = unwrapped(error)
    if isinstance(error, Disposition):
        return _disposed(error, error)
    if on_error == "skip":
        return Outcome("skip", error)
    if on_error == "stop":
        return Outcome("stop", error)
    try:
        decision = on_error(error, message)
    except Disposition as raised:
        decision = raised
    except Exception as broken:
        broken.__context__ = error
        return Outcome("stop", broken)
    if not isinstance(decision, (Retry, Skip, Stop)):
        return Outcome("stop", _no_decision(decision, error))
    return _disposed(decision, error)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it; an error that is no group is its own."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def unwrapped(error: BaseException) -> BaseException:
    """The disposition that a group stands for, as a TaskGroup raises it; else the error itself.

    One Stop stops. Several Skip, or several Retry (the longest delay), agree; anything else is
    ambiguous.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = list(leaves(error))
    for one in found:
        if isinstance(one, Stop):
            return one
    if all(isinstance(one, Skip) for one in found):
        return found[0]
    retries = [one for one in found if isinstance(one, Retry)]
    if len(retries) == len(found):
        return max(retries, key=lambda retry: retry.delay)
    return error


def _disposed(disposition: Disposition, error: BaseException) -> Outcome:
    if isinstance(disposition, Retry):
        return Outcome("retry", error, disposition.delay)
    if isinstance(disposition, Skip):
        return Outcome("skip", error)
    return Outcome("stop", error)


def _no_decision(decision: object, error: BaseException) -> TypeError:
    problem = TypeError(
        f"on_error returned {decision!r}; return Retry(), Skip() or Stop() of kafkaesk_core"
    )
    problem.__cause__ = error
    return problem
