"""Finds the messages that make a batch fail, in few calls and in the order of the batch."""

from __future__ import annotations

from collections.abc import Sequence

from kafkaesk_core import BatchFailure, ConsumeBatchCall, Disposition, IncomingMessage

from .cancellation import is_shutdown

__all__ = ["MOST_CALLS", "Search"]

MOST_CALLS = 40
"""After this many calls, single messages are probably not the cause; the rest waits."""

Messages = list[IncomingMessage]


class Search:
    """Handles a failed batch in parts, until each failing message is isolated.

    The halves of a failing part are tried from its beginning, so messages are handled in order, and
    messages that were handled successfully are not handled again. `failing` has the errors of the
    failed messages; `untried` are the messages left at the end.
    """

    def __init__(self, call_next: ConsumeBatchCall) -> None:
        self._call_next = call_next
        self._calls = 0
        self.failing: dict[IncomingMessage, BaseException] = {}
        self.untried: Messages = []

    async def run(self, messages: Sequence[IncomingMessage]) -> None:
        """Find the failing messages among these, which fail together.

        Raises:
            Exception: the running task was cancelled while a part was handled.
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
        """Handle a part; return whether the search is over for this part."""
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
        """Whether the core has deferred messages, behind one that cannot be decoded."""
        return any(message.turn == "put off" for message in messages)
