"""The paused streams of each group, and the reasons. Pure: no Kafka, no asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from .errors import ConfigurationError

__all__ = ["Pauses"]


class _Rule(NamedTuple):
    """One call of `pause` or `resume`; None stands for all groups, or for all streams."""

    group: str | None
    streams: tuple[str, ...] | None
    reason: str | None  # None: resumed

    def takes(self, group: str, stream: str) -> bool:
        if self.group is not None and self.group != group:
            return False
        streams = self.streams
        return streams is None or any(fnmatchcase(stream, pattern) for pattern in streams)

    def __str__(self) -> str:
        streams = "all streams" if self.streams is None else f"streams {', '.join(self.streams)}"
        return f"{streams} paused" + (f": {self.reason}" if self.reason else "")


class Pauses:
    """The calls of `pause` and `resume`; the last call that covers a stream decides."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def pause(self, group: str | None, streams: Sequence[str] | str | None, reason: str) -> None:
        """Pause these streams (fnmatch patterns) of this group.

        Raises:
            ConfigurationError: an argument has the wrong type.
        """
        if not isinstance(reason, str):
            raise ConfigurationError(f"pause(reason={reason!r}): give a text")
        self._add(_Rule(*_check("pause", group, streams), reason))

    def resume(self, group: str | None, streams: Sequence[str] | str | None) -> None:
        """End the pause of these streams (fnmatch patterns) of this group.

        Raises:
            ConfigurationError: an argument has the wrong type.
        """
        self._add(_Rule(*_check("resume", group, streams), None))

    def _add(self, rule: _Rule) -> None:
        is_covered = rule.streams is None
        self._rules = [
            old
            for old in self._rules
            if old[:2] != rule[:2]
            and not (is_covered and (rule.group is None or rule.group == old.group))
        ]
        self._rules.append(rule)
        if all(old.reason is None for old in self._rules):
            self._rules.clear()

    def reason(self, group: str, stream: str) -> str | None:
        """Return why a stream of a group is paused (possibly ""); None if it is not paused."""
        rules = (rule for rule in reversed(self._rules) if rule.takes(group, stream))
        return next((rule.reason for rule in rules), None)

    def texts(self, group: str) -> list[str]:
        """Return the paused streams of a group, with the reasons."""
        return [
            str(rule)
            for rule in self._rules
            if rule.reason is not None and rule.group in (None, group)
        ]


def _check(
    called: str, group: str | None, streams: Sequence[str] | str | None
) -> tuple[str | None, tuple[str, ...] | None]:
    if group is not None and not (isinstance(group, str) and group):
        raise ConfigurationError(f"{called}(group={group!r}): give a group's name, or None for all")
    several = (streams,) if isinstance(streams, str) else streams
    if several is None:
        return group, None
    is_list = isinstance(several, Sequence) and not isinstance(several, bytes) and len(several) > 0
    if not is_list or not all(isinstance(one, str) and one for one in several):
        raise ConfigurationError(
            f"{called}(streams={streams!r}): give names or patterns of streams, or None for all"
        )
    return group, tuple(several)
