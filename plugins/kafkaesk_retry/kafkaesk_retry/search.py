"""Finding the messages that a batch fails of, in few calls and in the order of the batch."""

from __future__ import annotations

from collections.abc import Sequence

from kafkaesk_core import BatchFailure, ConsumeBatchCall, Disposition, IncomingMessage

from .recovery import is_shutdown

__all__ = ["MOST_CALLS", "Search"]

MOST_CALLS = 40
"""Where so many calls have failed, it is no matter of single messages: the rest waits."""

Messages = list[IncomingMessage]


class Search:
    """Handles a batch that has failed in parts, until each failing message stands alone.

    Halves of what is known to fail are tried from its beginning, so that messages are handled in
    their order, and what a call has succeeded with is handed on no more. `failing` has the errors
    of the messages that failed; `untried` are those that it left at the end.
    """

    def __init__(self, call_next: ConsumeBatchCall) -> None:
        self._call_next = call_next
        self._calls = 0
        self.failing: dict[IncomingMessage, BaseException] = {}
        self.untried: Messages = []

    async def run(self, messages: Sequence[IncomingMessage]) -> None:
        """Find the failing ones of these messages, which fail together.

        Raises:
            Exception: of a part during whose handling the running task was cancelled.
        """
        suspect: Messages = list(messages)
        rest: Messages = []
        while suspect or rest:
            if self._calls >= MOST_CALLS or self._is_put_off(messages):
                self.untried = [*suspect, *rest]
                return
            if not suspect:
                suspect, rest = ([], []) if await self._succeeds(rest) else (rest, [])
                continue
            size = max(len(suspect) // 2, 1)
            part, others = suspect[:size], suspect[size:]
            if await self._succeeds(part):
                # One that is alone is called in any case: the failure may have been of the moment.
                suspect = others
            elif len(part) == 1:
                suspect, rest = [], [*others, *rest]
            else:
                suspect, rest = part, [*others, *rest]

    async def _succeeds(self, part: Messages) -> bool:
        """Handle a part; return whether nothing of it has to be looked for any more."""
        self._calls += 1
        try:
            await self._call_next(part)
        except BatchFailure as failure:
            self.failing.update(failure.errors)
        except Disposition as decision:
            self.failing.update(dict.fromkeys(part, decision))
        except Exception as error:
            if is_shutdown():
                raise
            if len(part) > 1:
                return False
            self.failing[part[0]] = error
            return False
        return True

    @staticmethod
    def _is_put_off(messages: Sequence[IncomingMessage]) -> bool:
        """Whether the core has put messages off, behind one that cannot be decoded."""
        return any(message.turn == "put off" for message in messages)
