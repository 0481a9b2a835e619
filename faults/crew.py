"""A workload with its publishers and members, and their progress."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from signal import Signals

from aiokafka import AIOKafkaProducer

from .journal import Event, Journal, events, now
from .points import point_file
from .process import NoProgressError, Process
from .publisher import IDS, KEYS, Sender, new_application
from .workload import Order, Task, Workload

__all__ = ["Crew"]

JOIN_LIMIT, PROGRESS_LIMIT = 60.0, 90.0
STALL_LIMIT, DRAIN_LIMIT, COMMIT_LIMIT = 120.0, 900.0, 30.0


class Crew:
    """Runs one workload; keeps all of its processes for the judge."""

    def __init__(
        self, workload: Workload, servers: Sequence[str], folder: Path, *, topic: str, seed: int
    ) -> None:
        self.workload = workload
        self.topic = topic
        self.servers = tuple(servers)
        self.folder = folder
        self._seed = seed
        self.random = random.Random(seed)
        self.members: list[Process] = []
        self.publishers: list[Process] = []
        self.spared: list[Process] = []  # never picked
        self.poisoned = 0  # records that are to be skipped
        self.gaps = 0  # offsets of the log that nobody is given
        self.ended = 0  # members that ended by themselves, where others would start them again
        self.published: list[Path] = []  # journals of whatever publishes
        self.handled: dict[tuple[str, int], int] = {}
        self.acked: set[int] = set()
        self.committed: dict[str, int] = {}  # partition -> highest next-to-read offset
        self._begun: dict[int, list[Process]] = {}
        self._reached: dict[str, Process] = {}
        self._topics = {topic}

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.topic}-readers"

    @property
    def dead_letters(self) -> str:
        """The topic of the group's dead letters."""
        return f"dlq.{self.group}.{self.topic}"

    @property
    def topics(self) -> list[str]:
        """All topics that the publishers write to."""
        return sorted(self._topics)

    # --- processes

    def publish(self, topic: str = "") -> Process:
        """Start a publisher, by default to the crew's topic."""
        topic, number = topic or self.topic, len(self.published)
        self._topics.add(topic)
        process = self._new(f"{topic}-publisher{number}", "publisher", topic, number)
        self.publishers.append(process)
        self.published.append(process.journal)
        process.start()
        return process

    def join(self) -> Process:
        """Start one more member."""
        number = len(self.members)
        process = self._new(f"{self.topic}-{number}", self.workload.library, self.topic, number)
        self.members.append(process)
        process.start()
        return process

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Sender]:
        """Publish single orders from here; each order says how to handle it."""
        number = len(self.published)
        task = self._task(f"{self.topic}-sender{number}", self.topic, number)
        self.published.append(Path(task.journal))
        async with new_application(task) as app:
            yield Sender(app, task, Journal(task.journal))
        for event in events(Path(task.journal)):
            self._heard(None, event)

    async def transact(self, count: int, *, is_aborted: bool) -> None:
        """Write a number of orders to each partition in a transaction, which leaves a marker.

        An aborted transaction's records are not orders, in case a consumer reads them anyway.
        """
        number, kind = len(self.published), "aborted" if is_aborted else "committed"
        name = f"{self.topic}-{kind}{number}"
        task = self._task(name, self.topic, number)
        self.published.append(Path(task.journal))
        first, partitions = task.number * IDS, range(self.workload.partitions)
        producer = AIOKafkaProducer(bootstrap_servers=list(self.servers), transactional_id=name)
        await producer.start()
        journal, done = Journal(task.journal), []
        try:
            await producer.begin_transaction()
            for n in range(count * len(partitions)):
                order = Order(first + n, task.number * KEYS + n % len(partitions), n)
                value = b"aborted" if is_aborted else order.encode()
                if not is_aborted:
                    journal.write("sent", order.id, order.key, order.seq)
                place = partitions[n % len(partitions)]
                done.append((order.id, await producer.send(self.topic, value, partition=place)))
            await (producer.abort_transaction() if is_aborted else producer.commit_transaction())
            for order_id, delivery in done if not is_aborted else ():
                place = await delivery
                journal.write("acked", order_id, f"{place.topic}:{place.partition}", place.offset)
        finally:
            await producer.stop()
        self.gaps += len(partitions) * (count + 1 if is_aborted else 1)
        for event in events(Path(task.journal)):
            self._heard(None, event)

    def _new(self, name: str, runs: str, topic: str, number: int) -> Process:
        task = self._task(name, topic, number)
        process = Process(name, task, self.folder, runs=runs)
        process.heard = partial(self._heard, process)
        return process

    def _task(self, name: str, topic: str, number: int) -> Task:
        journal = str(self.folder / f"{name}.journal")
        seed = self.random.getrandbits(32)
        return Task(self.workload, self.servers, topic, journal, seed, number)

    @property
    def present(self) -> list[Process]:
        """The running members."""
        return [member for member in self.members if member.is_running]

    def pick(self) -> Process:
        """Pick one of the running members that have joined, by the seed."""
        joined = [member for member in self.present if member.has_joined()]
        return self.random.choice([member for member in joined if member not in self.spared])

    async def settled(self, count: int) -> None:
        """Wait until this many members have joined."""
        await self._until(
            lambda: sum(member.has_joined() for member in self.present) >= count,
            JOIN_LIMIT,
            f"{count} members that joined the group",
        )

    async def started(self) -> None:
        """Wait until the group has committed each partition: no record is before its start."""
        await self._until(
            lambda: len(self.committed) == self.workload.partitions,
            JOIN_LIMIT,
            "a commit of each partition",
        )

    async def joined(self, *processes: Process) -> None:
        """Wait until these members have partitions."""
        waiting = processes or tuple(self.present)
        await self._until(
            lambda: all(process.has_joined() for process in waiting),
            JOIN_LIMIT,
            "all have joined the group",
        )

    # --- progress

    def _heard(self, process: Process | None, event: Event) -> None:
        if event.kind in ("end", "dead"):
            self.handled.setdefault(event.place, event.at)
        elif event.kind == "reached" and process is not None:
            self._reached[event.words[0]] = process
        elif event.kind == "acked":
            self.acked.add(int(event.words[0]))
        elif event.kind == "committed":
            for partition, offset in zip(event.words[1::2], event.words[2::2], strict=True):
                self.committed[partition] = max(int(offset), self.committed.get(partition, 0))
        elif event.kind == "begin" and process is not None and int(event.words[0]) >= IDS:
            self._begun.setdefault(int(event.words[0]), []).append(process)

    def look(self) -> None:
        """Read the events since the last call."""
        for process in (*self.members, *self.publishers):
            process.look()

    def begun(self, order: int) -> list[Process]:
        """Return the members that have begun an order of `sending`, in order."""
        self.look()
        return self._begun.get(order, [])

    def ask_for(self, point: str) -> None:
        """Let the next member that reaches a point stop there."""
        self._reached.pop(point, None)
        point_file(self.folder, self.topic, point).touch()

    def reached(self, point: str) -> Process | None:
        """Return the member that has stopped at the point."""
        self.look()
        return self._reached.get(point)

    def handled_by_partition(self) -> Counter[str]:
        """The number of handled records of each partition."""
        self.look()
        return Counter(partition for partition, _ in self.handled)

    def handled_of(self, place: str) -> int:
        """Return the number of handled records of a topic or a partition."""
        counts = self.handled_by_partition()
        return sum(counts[p] for p in counts if place in (p, p.rpartition(":")[0]))

    async def progress(self, records: int, within: float = PROGRESS_LIMIT) -> None:
        """Wait until this many more records were handled.

        Raises:
            NoProgressError: too few records were handled, or a process ended by itself.
        """
        self.look()
        goal = len(self.handled) + records
        await self._until(lambda: len(self.handled) >= goal, within, f"{records} more handled")

    async def fall_silent(self) -> None:
        """Stop publishing."""
        running = [publisher for publisher in self.publishers if publisher.is_running]
        await asyncio.gather(*(publisher.end(signal.SIGTERM) for publisher in running))

    async def finish(self, ends: Mapping[str, int]) -> None:
        """Wait until every record in the log was handled; `ends` are next-to-read offsets.

        Many faults leave many records, so the wait lasts as long as there is progress. Offsets at
        the end of the log without records must also be passed and committed.

        Raises:
            NoProgressError: no more records were handled, or it took far too long.
        """
        deadline = time.monotonic() + DRAIN_LIMIT
        while not self._has_reached(ends):
            before = len(self.handled)
            within = min(STALL_LIMIT, deadline - time.monotonic())
            what = f"all {sum(ends.values())} handled that are in the log"
            await self._until(partial(self._has_handled, before + 1), within, what)
        if self.gaps and self.workload.library == "kafkaesk":
            # Members that end before they have read a gap leave it to the next ones.
            await self._until(
                lambda: all(self.committed.get(p, 0) >= end for p, end in ends.items()),
                COMMIT_LIMIT,
                "commits behind the gaps at the end of the log",
            )

    def _has_handled(self, count: int) -> bool:
        """Whether this many records were handled."""
        return len(self.handled) >= count

    def _has_reached(self, ends: Mapping[str, int]) -> bool:
        """Whether there are as many handled records as offsets, except known gaps."""
        return len(self.handled) + self.poisoned + self.gaps >= sum(ends.values())

    async def leave(self) -> None:
        """End all members gracefully."""
        await asyncio.gather(*(member.end(signal.SIGTERM) for member in self.present))

    def kill(self) -> None:
        """End every process now."""
        for process in (*self.members, *self.publishers):
            process.kill()

    async def _until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while True:
            self.look()
            if condition():
                return
            self._check()
            if time.monotonic() > deadline:
                raise NoProgressError(
                    f"{self.workload.name}: not within {within:g} s: {what} "
                    f"({len(self.handled)} handled, {len(self.acked)} acknowledged)"
                )
            await asyncio.sleep(0.05)

    def _check(self) -> None:
        for process in (*self.members, *self.publishers):
            if process.ended_by is None and not process.is_running:
                if self.workload.library != "kafkaesk" and process in self.members:
                    self._start_again(process)
                    continue
                raise NoProgressError(
                    f"{process.name} has ended by itself, exit code {process.exit_code}: "
                    f"{process.last_words()}"
                )

    def _start_again(self, member: Process) -> None:
        """Restart an ended member of another library, as an orchestrator does."""
        member.ended_at, member.ended_by = now(), Signals.SIGTERM
        self.ended += 1
        self.join()
