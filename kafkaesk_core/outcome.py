"""What became of one message: the only thing that ledger, lanes and counters look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import Disposition, Retry, Skip, Stop
from .message import IncomingMessage
from .subscription import OnError

__all__ = ["DONE", "Outcome", "outcome_of"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Done, skipped, to be retried after `delay` seconds, or the reason to stop.

    `kept` is for a batch that is not finished with: the indexes of its items that are not.
    """

    kind: Literal["done", "skip", "retry", "stop"]
    error: BaseException | None = None
    delay: float = 0.0
    kept: Sequence[int] = ()

    @property
    def is_terminal(self) -> bool:
        """Whether the message is finished with: its offset may be committed."""
        return self.kind in ("done", "skip")


DONE = Outcome("done")


def outcome_of(error: BaseException, on_error: OnError, message: IncomingMessage) -> Outcome:
    """Turn what a handler, or a layer around it, raised into an outcome.

    Dispositions decide themselves. For everything else `on_error` decides; an `on_error` callable
    that raises, or returns no disposition, stops.
    """
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
