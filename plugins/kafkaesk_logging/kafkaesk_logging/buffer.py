"""The buffer of waiting lines: bounded, thread-safe, and with exact counts."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .settings import QueueOptions

__all__ = ["Buffer", "Entry", "LogStats"]

Entry = tuple[bytes, str, bytes | None, int]
"""One line: the message, its stream, its key, milliseconds since 1970. It is a plain tuple of plain
values, because the garbage collector does not visit those."""


@dataclass(frozen=True, slots=True)
class LogStats:
    """The counts of queued, delivered, dropped and suppressed records.

    `enqueued` = `delivered` + `queue_size` + `in_flight` + the sum of `dropped`. The keys of
    `dropped` are queue_full, bytes_full, too_large, delivery_failed, unacknowledged and closed.
    `suppressed` counts records that are never shipped: records logged while another record was
    encoded or shipped, records of excluded loggers, and records about lines of the same stream.
    """

    enqueued: int = 0
    delivered: int = 0
    queue_size: int = 0
    queue_bytes: int = 0
    in_flight: int = 0
    suppressed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


class Buffer:
    """A queue that never blocks the event loop, bounded in records and bytes.

    `on_drop` is called with the reason and the number of dropped lines, without the lock, in the
    thread that caused the drop. `loop_thread` is the thread that must never wait; it is None while
    nothing is shipped, because no thread waits then.
    """

    def __init__(self, options: QueueOptions, on_drop: Callable[[str, int], None]) -> None:
        self._options = options
        self._on_drop = on_drop
        self._policy = options.drop_policy
        self._size, self._max_bytes = options.queue_size, options.max_bytes
        self.loop_thread: int | None = None
        self._clear()

    def _clear(self) -> None:
        """Start empty with a new lock; in a forked process, the old ones are the parent's."""
        # Reentrant: a signal handler, or the garbage collector, may log while a thread holds it.
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._is_signalled = False
        self._enqueued = self._delivered = self._in_flight = self._suppressed = 0
        self._dropped: Counter[str] = Counter()

    def reset_after_fork(self) -> None:
        """Start empty in a forked process; the parent ships its own lines."""
        self.loop_thread = None
        self._clear()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def in_flight(self) -> int:
        """The number of lines that were taken and have no outcome yet."""
        return self._in_flight

    @property
    def is_half_empty(self) -> bool:
        """Whether at least half of the room is free."""
        return len(self._entries) * 2 <= self._size and self._bytes * 2 <= self._max_bytes

    @property
    def is_settled(self) -> bool:
        """Whether every line has its outcome."""
        return not self._entries and not self._in_flight

    def wait_until_settled(self, timeout: float) -> bool:
        """Block until every line has its outcome; return False after `timeout` seconds."""
        with self._lock:
            return self._room.wait_for(lambda: self.is_settled, timeout)

    def stats(self) -> LogStats:
        """Return the current counts."""
        with self._lock:
            return LogStats(
                enqueued=self._enqueued,
                delivered=self._delivered,
                queue_size=len(self._entries),
                queue_bytes=self._bytes,
                in_flight=self._in_flight,
                suppressed=self._suppressed,
                dropped=dict(self._dropped),
            )

    # --- in

    def put(self, entry: Entry) -> bool:
        """Add an entry by the `drop_policy`; return whether the shipper must be woken."""
        size, dropped = len(entry[0]), None
        with self._lock:
            self._enqueued += 1
            if len(self._entries) >= self._size or self._bytes + size > self._max_bytes:
                dropped = self._make_room(size)
            if dropped is None or dropped[2]:
                self._entries.append(entry)
                self._bytes += size
            must_wake = not self._is_signalled
            self._is_signalled = True
        if dropped is not None and dropped[1]:
            self._on_drop(dropped[0], dropped[1])
        return must_wake

    def _make_room(self, size: int) -> tuple[str, int, bool]:
        """Return the reason, the number of dropped lines, and whether there is room now."""
        reason = "queue_full" if len(self._entries) >= self._size else "bytes_full"
        count, has_room = 0, False
        if self._policy == "drop_oldest":
            while self._entries and not self._fits(size):
                self._bytes -= len(self._entries.popleft()[0])
                count += 1
            has_room = self._fits(size)
        elif self._policy == "block" and self.loop_thread not in (None, threading.get_ident()):
            has_room = self._room.wait_for(lambda: self._fits(size), self._options.block_timeout)
        if not has_room:
            count += 1
        if count:
            self._dropped[reason] += count
        return reason, count, has_room

    def _fits(self, size: int) -> bool:
        return len(self._entries) < self._size and self._bytes + size <= self._max_bytes

    def suppress(self) -> None:
        """Count a record that is never shipped."""
        with self._lock:
            self._suppressed += 1

    def refuse(self, reason: str) -> None:
        """Count a record that cannot be shipped."""
        with self._lock:
            self._enqueued += 1
            self._dropped[reason] += 1

    # --- out

    def take(self, count: int) -> list[Entry]:
        """Take the oldest entries; they are in flight until their outcome is reported."""
        with self._lock:
            taken = [self._entries.popleft() for _ in range(min(count, len(self._entries)))]
            self._bytes -= sum([len(entry[0]) for entry in taken])
            self._in_flight += len(taken)
            self._room.notify_all()
        return taken

    def has_nothing_left(self) -> bool:
        """Return whether the buffer is empty; if so, the next `put` wakes the shipper."""
        with self._lock:
            self._is_signalled = bool(self._entries)
            return not self._entries

    def put_back(self, entries: Sequence[Entry], reason: str) -> None:
        """Put entries back to the front; drop entries without room, for `reason`."""
        dropped = 0
        with self._lock:
            self._in_flight -= len(entries)
            for entry in reversed(entries):
                if self._fits(len(entry[0])):
                    self._entries.appendleft(entry)
                    self._bytes += len(entry[0])
                else:
                    dropped += 1
            if dropped:
                self._dropped[reason] += dropped
        if dropped:
            self._on_drop(reason, dropped)

    def delivered(self, count: int) -> None:
        """Count acknowledged lines."""
        with self._lock:
            self._in_flight -= count
            self._delivered += count
            self._room.notify_all()

    def lost(self, count: int, reason: str) -> None:
        """Count taken lines that will not be delivered."""
        with self._lock:
            self._in_flight -= count
            self._dropped[reason] += count
            self._room.notify_all()
        self._on_drop(reason, count)

    def abandon(self, reason: str) -> list[Entry]:
        """Drop all lines, and return them."""
        with self._lock:
            left = list(self._entries)
            self._entries.clear()
            self._bytes = 0
            if left:
                self._dropped[reason] += len(left)
        if left:
            self._on_drop(reason, len(left))
        return left
