"""Decides on the failed records of one handler: retried, postponed, or dead letters."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from kafkaesk_core import (
    DecodeError,
    Defer,
    IncomingMessage,
    MessageTooLargeError,
    Retry,
    Subscription,
)

from .breaker import Breaker
from .failure import AttemptsExhaustedError, describe_failure
from .letter import Letter, Origin, Postponed, origin_of, without_own
from .mailer import Mailer
from .places import Place, StreamNames, fetched_at, place_of
from .policy import Policy
from .settings import RetrySettings

__all__ = ["Recovery"]

logger = logging.getLogger("kafkaesk.retry")


class Unsent(NamedTuple):
    """The unsent letter or postponed record for a record.

    `source` is where the group reads the record, and `epoch` that of its failure.
    """

    source: Place
    epoch: int
    stream: str
    parcel: Letter | Postponed


class Recovery:
    """Decides on the failed records of one subscription, and remembers the unsettled ones.

    `needs_care` says whether records must be checked before they are handled.
    """

    def __init__(
        self,
        subscription: Subscription,
        policy: Policy,
        settings: RetrySettings,
        names: StreamNames,
        prefix: str,
    ) -> None:
        self.policy = policy
        self._subscription = subscription
        self._settings = settings
        self._names = names
        self._prefix = prefix
        self._unsent: dict[Place, Unsent] = {}
        self.breaker = Breaker(
            settings.dead_limit,
            settings.dead_window,
            settings.probe,
            asyncio.get_running_loop().time,
        )
        self._alone: set[Place] = set()
        self.needs_care = False
        self.counts: Counter[str] = Counter()

    # --- before a record is handled

    async def is_settled(self, message: IncomingMessage, mailer: Mailer) -> bool:
        """Return whether a record that failed before needs no more handling.

        Raises:
            Defer: the record must wait.
        """
        place = place_of(message)
        unsent = self._unsent.get(place)
        if unsent is not None and (unsent.source, unsent.epoch) != fetched_at(message):
            del self._unsent[place]  # after a seek it is handled again
        elif unsent is not None:
            try:
                await self._send(message, unsent.stream, unsent.parcel, mailer)
            except MessageTooLargeError:
                del self._unsent[place]  # it is handled again, and becomes a dead letter
            else:
                return True
        if message.crashes >= self.policy.attempts and self.policy.dead_letter:
            error = AttemptsExhaustedError(
                f"the process ended {message.crashes} times while {place} was handled"
            )
            await self._end(message, error, mailer)
            return True
        self._hold(message)
        return False

    def _hold(self, message: IncomingMessage) -> None:
        """Let a record wait if it is not due yet, or if its dependency is down."""
        if self._names.is_own(message.stream):
            origin = origin_of(message)
            due = origin.due_ms / 1000 - time.time()
            if due > 0:
                self.counts["deferred"] += 1
                raise Defer(due, "it is not due yet")
            # It has the form of the stream that it came from, which codecs go by.
            message.stream = origin.place.topic.removeprefix(self._prefix)
        wait = self.breaker.wait()
        if wait > 0:
            self.counts["deferred"] += 1
            raise Defer(wait, "too many records died; its dependency may be down")

    def settle(self, messages: Iterable[IncomingMessage]) -> None:
        """Forget records that will not be handled again."""
        self._alone.difference_update(map(place_of, messages))

    def succeed(self, messages: Sequence[IncomingMessage]) -> None:
        """Note handled records."""
        self.settle(messages)
        if self.breaker.succeed():
            logger.info("group %s: a record was handled again; all go on", self._subscription.group)

    # --- after it failed

    async def fail(self, message: IncomingMessage, error: Exception, mailer: Mailer) -> None:
        """Decide on a failure; return only if the record is settled.

        Raises:
            Retry: the record is handled again.
            Defer: the record is handled, or written, again; this does not count as an attempt.
            Exception: the error itself, on which the subscription decides.
        """
        origin = origin_of(message)
        verdict = self.policy.judge(error, message.attempt, origin.rounds)
        if verdict == "pass":
            self.settle((message,))
            raise error
        if verdict == "again":
            raise self.again(message, error) from error
        if verdict == "later":
            await self._postpone(message, origin, error, mailer)
        else:
            await self._end(message, error, mailer)

    def again(self, message: IncomingMessage, error: Exception) -> Retry:
        """Return the decision to handle a record again."""
        self.counts["retried"] += 1
        reason = f"{_describe(error)} (attempt {message.attempt} of {self.policy.attempts})"
        return Retry(reason, delay=self.policy.delay(message.attempt))

    def note_alone(self, messages: Iterable[IncomingMessage]) -> None:
        """Note messages of a batch that have failed alone."""
        self.needs_care = True
        self._alone.update(map(place_of, messages))

    def is_alone(self, message: IncomingMessage) -> bool:
        """Whether a message of a batch has failed alone."""
        return bool(self._alone) and place_of(message) in self._alone

    @property
    def unsent_streams(self) -> set[str]:
        """The streams with unsent records."""
        return {unsent.stream for unsent in self._unsent.values()}

    def forget_passed(self, committed: Mapping[tuple[str, int], int]) -> None:
        """Forget unsent records below the committed offsets: a seek has passed over them."""
        for place, unsent in list(self._unsent.items()):
            topic, partition, offset = unsent.source
            if committed.get((topic, partition), 0) > offset:
                del self._unsent[place]

    def forget(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Forget unsent records of revoked partitions, which other members have now.

        A record that waited in a topic is known by the place of its origin. So when partitions of
        waiting records are revoked, everything is forgotten, and records that are redelivered here
        are handled again.
        """
        gone = set(partitions)
        is_all = any(self._names.is_own(topic.removeprefix(self._prefix)) for topic, _ in gone)
        for place in [place for place in self._unsent if is_all or place[:2] in gone]:
            del self._unsent[place]
        alone = [place for place in self._alone if is_all or place[:2] in gone]
        self._alone.difference_update(alone)

    async def _postpone(
        self, message: IncomingMessage, origin: Origin, error: Exception, mailer: Mailer
    ) -> None:
        _note_handled(message, error)
        seconds = self.policy.later[origin.rounds]
        waiting = replace(
            origin,
            rounds=origin.rounds + 1,
            deliveries=origin.deliveries + message.attempt,
            due_ms=math.ceil((time.time() + seconds) * 1000),
        )
        headers = without_own(message.headers, "kafka")
        group = self._subscription.group
        record = message.record
        parcel = Postponed(
            waiting, group, record.key, record.value, headers, _timestamp(record.timestamp)
        )
        stream = self._names.later(group, seconds)
        try:
            await self._send(message, stream, parcel, mailer)
        except MessageTooLargeError:
            self._unsent.pop(place_of(message), None)
            await self._end(message, error, mailer)

    async def _end(self, message: IncomingMessage, error: Exception, mailer: Mailer) -> None:
        """Make a record a dead letter, unless the breaker opens: then the record waits."""
        self.needs_care = True
        if not self.policy.is_own_fault(error) and not self._may_die(error):
            self.counts["deferred"] += 1
            raise Defer(self.breaker.pause(), _describe(error)) from error
        _note_handled(message, error)
        letter = self._letter(message, error)
        place = letter.origin.place
        stream = self._names.dead(self._subscription.group, place.topic.removeprefix(self._prefix))
        await self._send(message, stream, letter, mailer)

    def _may_die(self, error: Exception) -> bool:
        was_open = self.breaker.is_open
        if self.breaker.admits_death():
            return True
        if not was_open:
            logger.error(
                "group %s: too many records of handler %s died, the last of %s; its dependency "
                "may be down: one record is tried every %g seconds, and all others wait",
                *(self._subscription.group, self._subscription.handler_name, _describe(error)),
                self._settings.probe,
            )
        return False

    def _letter(self, message: IncomingMessage, error: Exception) -> Letter:
        origin = origin_of(message)
        try:
            record = message.record
            value, timestamp, kind = record.value, record.timestamp, record.timestamp_type
            size = None
        except DecodeError:  # the record itself cannot be read
            value, timestamp, kind, size = None, None, None, 0
        return Letter(
            origin=origin,
            group=self._subscription.group,
            handler=self._subscription.handler_name,
            failure=describe_failure(error, self._settings.stacktrace_bytes),
            deliveries=origin.deliveries + message.attempt,
            failed_at_ms=int(time.time() * 1000),
            key=message.key,
            value=value,
            headers=without_own(message.headers, self._settings.style),
            timestamp_ms=_timestamp(timestamp),
            timestamp_type=kind,
            value_size=size,
        )

    async def _send(
        self, message: IncomingMessage, stream: str, parcel: Letter | Postponed, mailer: Mailer
    ) -> None:
        """Write a letter and settle the record; if the write fails, keep the letter.

        Raises:
            Defer: the record could not be written.
        """
        place = place_of(message)
        self.needs_care = True
        self._unsent[place] = Unsent(*fetched_at(message), stream, parcel)
        began = time.time_ns()
        metadata = await mailer.send(stream, parcel)
        if metadata is None:
            raise Defer(mailer.pause(stream), f"it cannot be written to {stream}")
        self._unsent.pop(place, None)
        self._alone.discard(place)
        message.meta.setdefault("forwarded", []).append((metadata, began, time.time_ns()))
        written = Place(metadata.topic, metadata.partition, metadata.offset)
        if isinstance(parcel, Postponed):
            self.counts["later"] += 1
            logger.warning(
                "%s (group %s, attempt %d) waits in %s",
                *(place, parcel.group, message.attempt, written),
            )
            return
        self.counts["dead"] += 1
        message.meta["dead_letter"] = str(written)
        logger.error(
            "%s (group %s, handler %s, attempt %d) is the dead letter %s: %s: %s",
            *(place, parcel.group, parcel.handler, message.attempt, written),
            *(parcel.failure.exception, parcel.failure.message),
        )


def _note_handled(message: IncomingMessage, error: Exception) -> None:
    """Tell outer layers about a failure that was handled here, since no exception shows it."""
    found = message.meta.setdefault("handled_errors", [])
    if error not in found:
        found.append(error)


def _timestamp(timestamp: int | None) -> int | None:
    return timestamp if timestamp is not None and timestamp >= 0 else None


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}, whose text cannot be shown"
