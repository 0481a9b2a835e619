"""The commits of one group: when they are sent, their layers, and the meaning of the answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

from aiokafka.structs import TopicPartition

from kafkaesk_core.app_protocol import App
from kafkaesk_core.errors import CommitError, SubscriptionError
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.router import Subscription
from kafkaesk_core.tasks import is_cancelled, retrieve_exception

from .notes import CommitNotes

__all__ = ["CommitLoop", "OffsetCommitter", "Reason"]

logger = logging.getLogger("kafkaesk.commits")
loop_logger = logging.getLogger("kafkaesk.consumer")

Reason = Literal["interval", "manual", "revoke", "stop"]
TOO_LONG = {
    "OffsetMetadataTooLargeError",  # one note, for offset.metadata.max.bytes
    "InvalidCommitOffsetSizeError",  # all of them, for the topic in which offsets are stored
    "MessageSizeTooLargeError",
    "RecordListTooLargeError",
}
"""Refusals that a too long note may have caused."""
FAILED = "commit failed: "
REASONS: tuple[Reason, ...] = ("interval", "manual", "revoke", "stop")
Offsets = Mapping[TopicPartition, int]
Notes = Mapping[TopicPartition, str]
Layers = Callable[[Offsets], Awaitable[None]]
Progress = Callable[[Iterable[TopicPartition]], Mapping[TopicPartition, tuple[int, int]]]
Send = Callable[..., Awaitable[CommitResult]]
"""Sends offsets within a number of seconds, with notes if there are any."""


class OffsetCommitter:
    """Commits watermarks, one at a time, only between an assignment and its revocation.

    `send` sends a commit to the broker. `subscription_of` returns the subscription of a topic; its
    layers wrap the commit. `lost` is called when the broker answers that the group has given our
    partitions to other members. `progress` returns the client's positions and is called before
    offsets are chosen. `notes` are stored with the offsets.

    Each subscription commits separately, with its own time limit, so a layer that hangs or fails
    does not block the commits of other subscriptions. Only the requests to the broker are sent one
    after the other.
    """

    def __init__(
        self,
        offsets: OffsetTracker[TopicPartition],
        send: Send,
        *,
        group: str,
        timeout: float,
        subscription_of: Callable[[str], Subscription],
        progress: Progress = lambda _: {},
        lost: Callable[[], None] = lambda: None,
        notes: CommitNotes | None = None,
    ) -> None:
        self._offsets = offsets
        self._send = send
        self._group = group
        self._timeout = timeout
        self._progress = progress
        self._lost = lost
        self._notes = notes
        self._locks: dict[Subscription, asyncio.Lock] = {}
        self._turn = asyncio.Lock()  # to send
        self._is_open = False
        self._in_flight: asyncio.Task[CommitResult] | None = None
        self._unknown: set[TopicPartition] = set()  # partitions that the coordinator does not know
        self._subscription_of = subscription_of
        self._layers: dict[tuple[Subscription, Reason], Layers] = {}
        self._name_failure: Callable[[Exception], Exception] = lambda error: error
        self._errors: dict[Subscription, str] = {}  # of the last commit of each
        self.counts: Counter[str] = Counter()

    @property
    def last_error(self) -> str | None:
        """Why the last commit failed, or None; the reasons of several subscriptions are joined."""
        return "; ".join(dict.fromkeys(self._errors.values())) or None

    def compile(self, plugins: Plugins, app: App, subscriptions: Sequence[Subscription]) -> None:
        """Rebuild the chains of `wrap_commit`, one for each subscription and reason."""
        self._name_failure = plugins.name_failure
        self._layers = {
            (subscription, reason): plugins.chain(
                "wrap_commit",
                self._send_offsets,
                skip=subscription.skip_plugins,
                reason=reason,
                subscription=subscription,
                app=app,
            )
            for subscription in subscriptions
            for reason in REASONS
        }
        if self._notes is not None:
            # A layer that decides on offsets knows nothing about the records above them.
            free = {
                s for s in subscriptions if plugins.only_observes("wrap_commit", s.skip_plugins)
            }
            self._notes.silent = lambda tp: self._subscription_of(tp.topic) not in free

    def resume(self) -> None:
        """Allow commits: partitions were assigned."""
        self._is_open = True
        self._unknown.clear()
        self._errors.clear()

    async def suspend(self) -> None:
        """Allow no commits: partitions are being released. No commit is running when this returns.

        Otherwise a commit in flight could be applied after a commit of the next owner, and move the
        group back.
        """
        self._is_open = False
        running = self._in_flight
        if running is not None and not running.done():
            running.cancel()
            await asyncio.wait([running])

    async def commit(
        self, reason: Reason, *, only_gaps: bool = False, topic: str | None = None
    ) -> None:
        """Commit the finished records that are not committed yet, within `commit_timeout` seconds.

        With `only_gaps`, no further record is committed, only positions behind gaps. With `topic`,
        only the topic's subscription commits.

        Raises:
            CommitError: a broker did not acknowledge a commit, or a layer raised an error.
        """
        parts = self._by_subscription()
        if topic is not None:
            one = self._subscription_of(topic)
            parts = {one: parts.get(one, [])}
        works = [self._commit_part(*part, reason, only_gaps=only_gaps) for part in parts.items()]
        if len(works) == 1:
            found = [await works[0]]
        else:
            async with asyncio.TaskGroup() as group:  # each returns its error
                tasks = [group.create_task(work) for work in works]
            found = [task.result() for task in tasks]
        if errors := [error for error in found if error is not None]:
            raise self._as_one(errors)
        if reason in ("revoke", "stop"):
            self._report_postponed(reason, only_gaps)

    def are_together(self, topic: str, other: str) -> bool:
        """Whether two topics belong to one subscription, and so are committed together."""
        return self._subscription_of(topic) is self._subscription_of(other)

    def _by_subscription(self) -> dict[Subscription, list[TopicPartition]]:
        """Group our partitions by subscription; topics that two handlers match were not read."""
        parts: dict[Subscription, list[TopicPartition]] = {}
        for partition in self._offsets:
            with contextlib.suppress(SubscriptionError):
                parts.setdefault(self._subscription_of(partition.topic), []).append(partition)
        return parts

    async def _commit_part(
        self,
        subscription: Subscription,
        partitions: Collection[TopicPartition],
        reason: Reason,
        *,
        only_gaps: bool,
    ) -> Exception | None:
        """Commit the partitions of one subscription through its layers; return its error."""
        failure: Exception
        lock = self._locks.setdefault(subscription, asyncio.Lock())
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit, lock:
                owned = [partition for partition in partitions if partition in self._offsets]
                self._catch_up(owned)
                offsets = self._offsets.propose(owned, only_gaps=only_gaps)
                if self._notes is not None:  # before the layers, which may be slow
                    offsets = self._notes.draft(owned, offsets, adds=not only_gaps)
                if offsets:
                    await self._layers.get((subscription, reason), self._send_offsets)(offsets)
                    self._errors.pop(subscription, None)
                return None
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            failure = self._error("something that a layer of wrap_commit awaited was cancelled")
            failure.__cause__ = error
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                why = f"not finished within {self._timeout:g}s for handler"
                failure = self._error(f"{why} {subscription.handler_name}")
                failure.__cause__ = error
            else:
                failure = self._name_layer(error)
        self._errors[subscription] = self._reason(failure)
        return failure

    def _catch_up(self, partitions: Collection[TopicPartition]) -> None:
        # Between two steps of the event loop the client's position is right: records that getmany
        # returns are registered in the same step.
        for partition, (start, position) in self._progress(partitions).items():
            if partition in self._offsets:
                self._offsets.advance(partition, start, position)

    def _report_postponed(self, reason: Reason, only_gaps: bool) -> None:
        left = self._offsets.propose(only_gaps=only_gaps).keys() - self._unknown
        if left:
            self.counts["postponed"] += len(left)
            logger.warning(
                "group %s: %d partitions stay uncommitted on %s; "
                "their last records will be redelivered",
                self._group,
                len(left),
                reason,
            )

    def _as_one(self, errors: Sequence[Exception]) -> Exception:
        """Combine the errors of several subscriptions in one error."""
        if len(errors) == 1:
            return errors[0]
        reasons = "; ".join(dict.fromkeys(map(self._reason, errors)))
        error = CommitError(f"group {self._group}: {FAILED}{reasons}")
        error.__cause__ = ExceptionGroup(f"commits of group {self._group}", errors)
        return error

    def _reason(self, error: Exception) -> str:
        """Return an error's text without the group; the surrounding text names the group."""
        return str(error).removeprefix(f"group {self._group}: ").removeprefix(FAILED)

    # --- one commit

    def _name_layer(self, error: Exception) -> Exception:
        """Convert the error of a layer to a CommitError that names the plugin (D4)."""
        named = self._name_failure(error)
        if named is error:
            return error
        commit_error = CommitError(f"group {self._group}: {named}")
        commit_error.__cause__ = error
        return commit_error

    async def _send_offsets(self, offsets: Offsets) -> None:
        """Send these offsets, lowered to the watermarks, and note the acknowledged ones.

        Raises:
            CommitError: the partitions are no longer ours, or the broker refused or did not answer.
        """
        async with self._turn:
            clamped = self._offsets.clamp(offsets)
            if not clamped:
                return
            notes = {} if self._notes is None else self._notes.texts(clamped)
            refused = await self._send_noted(clamped, notes)
            if refused:
                # Again lowered to the watermarks: a partition may have jumped back meanwhile.
                bare = self._offsets.clamp({p: clamped[p] for p in refused})
                if bare:
                    await self._send_noted(bare, dict.fromkeys(bare, ""))

    async def _send_noted(self, clamped: Offsets, notes: Notes) -> Collection[TopicPartition]:
        """Send offsets with their notes; return the partitions whose notes were refused."""
        if not self._is_open:
            raise self._error("the partitions are being handed over")
        epochs = {partition: self._offsets.epoch(partition) for partition in clamped}
        work = (clamped, self._timeout, notes) if notes else (clamped, self._timeout)
        sending = asyncio.ensure_future(self._send(*work))
        sending.add_done_callback(retrieve_exception)
        self._in_flight = sending
        try:
            await asyncio.wait([sending])
        finally:
            # If this task was cancelled meanwhile, the commit may have been stored.
            if not sending.done():
                sending.cancel()
                self._offsets.mark_uncertain(clamped)
        result = self._answer(clamped, sending)
        too_long = _refused_notes(result, notes)
        for partition in too_long:
            del result.refused[partition]
        if self._notes is not None:  # also if another partition was refused, which raises
            self._notes.note_stored({p: notes[p] for p in result.stored})
            if too_long:
                self._notes.shorten(too_long)
        self._note(clamped, epochs, result)
        return too_long

    def _answer(self, offsets: Offsets, sent: asyncio.Future[CommitResult]) -> CommitResult:
        """Return the answer to a commit; a commit without an answer may have been stored."""
        error = None if sent.cancelled() else sent.exception()
        if sent.cancelled() or error is not None:
            self._offsets.mark_uncertain(offsets)
            raise self._error(str(error) if error else "interrupted by a handover") from error
        return sent.result()

    def _note(
        self,
        offsets: Offsets,
        epochs: Mapping[TopicPartition, int | None],
        result: CommitResult,
    ) -> None:
        for partition in result.stored:
            self._offsets.acknowledge(partition, epochs[partition], offsets[partition])
        self._note_unknown(result)
        if result.is_lost:
            self._lost()
            raise self._error("the group has given our partitions to others")
        if result.refused:
            refused = result.refused.items()
            refusals = ", ".join(f"{p.topic}[{p.partition}] {why}" for p, why in refused)
            raise self._error(f"refused: {refusals}")
        self.counts["commits"] += 1

    def _note_unknown(self, result: CommitResult) -> None:
        """Log each topic that the coordinator does not know, once, and keep following it.

        The partitions of a deleted topic are revoked soon. But a new topic may not be known to the
        coordinator yet, and a deleted one may have been created again. If it were dropped here, no
        member would read it before the next rebalance.
        """
        names = {partition.topic for partition in result.gone - self._unknown}
        self._unknown = (self._unknown - result.stored) | result.gone
        if names:
            logger.warning(
                "group %s: the coordinator does not know topic %s; was it deleted?",
                *(self._group, ", ".join(sorted(names))),
            )

    def _error(self, why: str) -> CommitError:
        self.counts["failures"] += 1
        return CommitError(f"group {self._group}: {FAILED}{why}")


def _refused_notes(result: CommitResult, notes: Notes) -> list[TopicPartition]:
    """Return the partitions whose notes were refused; their offsets may be stored without notes."""
    if not any(notes.values()):
        return []
    return [partition for partition, why in result.refused.items() if why in TOO_LONG]


class CommitLoop:
    """Commits every `interval` seconds; with `only_gaps`, only positions behind gaps."""

    def __init__(
        self,
        commits: OffsetCommitter,
        member: Callable[[], GroupMember],
        *,
        interval: float,
        only_gaps: bool,
    ) -> None:
        self._commits = commits
        self._member = member
        self._interval = interval
        self._only_gaps = only_gaps
        self._is_due = asyncio.Event()
        self.is_ended = False
        """Set it before the task is cancelled: a layer, or asyncio before Python 3.12, may swallow
        the cancellation."""

    def hurry(self) -> None:
        """Commit now rather than at the next interval."""
        self._is_due.set()

    async def run(self) -> None:
        """Commit repeatedly, until ended or cancelled."""
        while not self.is_ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._is_due.wait()
            self._is_due.clear()
            if self._member().is_stable:
                try:
                    await self._commits.commit("interval", only_gaps=self._only_gaps)
                except Exception as error:
                    # An error of a layer fails the commit, never the consumer (D4).
                    loop_logger.warning("%s; trying again in %g seconds", error, self._interval)
