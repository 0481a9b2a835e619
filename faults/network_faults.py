"""Faults of connections: cut, slow or silent, and delayed or lost requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from .answers import COMMIT, JOIN, PRODUCE, commit_codes
from .fault import until
from .journal import now
from .member_faults import SILENT, Join, StopMember, until_told
from .proxy import Proxy, Rule
from .stage import Stage

__all__ = [
    "Blackhole",
    "Cut",
    "CutAtBytes",
    "HoldCommits",
    "HoldJoins",
    "LoseAnswers",
    "RefuseCommits",
    "Throttle",
    "Unreachable",
]


def _proxy(stage: Stage) -> Proxy:
    assert stage.proxy is not None, "this fault needs the bed with a proxy"
    return stage.proxy


@dataclass(frozen=True, slots=True)
class Cut:
    """Closes all connections to one broker, or to all brokers."""

    everywhere: bool = False

    async def strike(self, stage: Stage) -> None:
        """Cut the connections at once."""
        proxy = _proxy(stage)
        # None to a broker that was down, and has led nothing since.
        await until(lambda: proxy.connected, "somebody is connected")
        broker = None if self.everywhere else stage.random.choice(proxy.connected)
        count = proxy.cut(broker)
        stage.struck("connections cut", f"{count} to {'all' if broker is None else broker + 1}")


@dataclass(frozen=True, slots=True)
class CutAtBytes:
    """Closes the next active connection to a broker in the middle of the transferred bytes."""

    most: int = 20_000

    async def strike(self, stage: Stage) -> None:
        """Wait until the connection is cut."""
        proxy = _proxy(stage)
        broker, before = stage.random.randrange(len(proxy.lines)), proxy.cuts
        proxy.set(broker, cut_after_bytes=stage.random.randrange(1, self.most))
        await until(lambda: proxy.cuts > before, "a connection is cut")
        stage.struck("connection cut in the middle", broker + 1)


@dataclass(frozen=True, slots=True)
class Blackhole:
    """One broker receives nothing and sends nothing, without an error, for some seconds.

    The broker leads a partition of each workload; members report it within `told` seconds.
    """

    seconds: float
    told: float

    async def strike(self, stage: Stage) -> None:
        """Begin, check the members' reports, end."""
        proxy = _proxy(stage)
        broker = stage.random.randrange(len(proxy.lines))
        proxy.set(broker, "stall")
        strike = stage.struck("broker behind a black hole", broker + 1)
        told = (until_told(crew, SILENT, within=self.told) for crew in stage.crews)
        await asyncio.gather(asyncio.sleep(self.seconds), *told)
        proxy.set(broker)
        strike.until = now()


@dataclass(frozen=True, slots=True)
class Throttle:
    """Slows down every connection for some seconds; `latency` is in seconds each way."""

    seconds: float
    latency: float = 0.25
    bytes_per_second: float = 64_000

    async def strike(self, stage: Stage) -> None:
        """Begin and end."""
        proxy = _proxy(stage)
        strike = stage.struck("connections throttled", "all")
        for broker in range(len(proxy.lines)):
            proxy.set(broker, latency=self.latency, bytes_per_second=self.bytes_per_second)
        await asyncio.sleep(self.seconds)
        for broker in range(len(proxy.lines)):
            proxy.set(broker)
        strike.until = now()


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Refuses every connection while a member starts; it joins once connections work again."""

    seconds: float
    state: Literal["refuse", "blackhole"] = "refuse"

    async def strike(self, stage: Stage) -> None:
        """Cut and refuse connections, let a member start, and allow connections again."""
        proxy = _proxy(stage)
        for broker in range(len(proxy.lines)):
            proxy.set(broker, self.state)
        proxy.cut()
        strike = stage.struck("brokers unreachable", "all")
        members = [(crew, crew.join()) for crew in stage.crews]
        await asyncio.sleep(self.seconds)
        assert all(member.is_running for _, member in members), "a start was given up too early"
        for broker in range(len(proxy.lines)):
            proxy.set(broker)
        proxy.cut()
        strike.until = now()
        for crew, member in members:
            stage.struck("member joined", member.name, crew.topic)
            await crew.joined(member)


# --- requests


@dataclass(frozen=True, slots=True)
class HoldCommits:
    """Delays the answers to commits for some seconds, while one member joins and another stops."""

    action: Literal["drop", "delay"] = "drop"
    seconds: float = 8.0

    async def strike(self, stage: Stage) -> None:
        """Hold the commits, let members join and stop, and release the commits."""
        proxy = _proxy(stage)
        rule = proxy.rule(Rule(self.action, COMMIT, seconds=self.seconds))
        await until(lambda: rule.fired, "a commit is held up")
        strike = stage.struck("commits held up", self.action)
        await Join().strike(stage)
        await StopMember().strike(stage)
        proxy.clear()
        strike.until = now()


@dataclass(frozen=True, slots=True)
class HoldJoins:
    """Delays the answers to JoinGroup; nothing may be committed meanwhile."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Delay, and let a member join."""
        proxy = _proxy(stage)
        rule = proxy.rule(Rule("delay", JOIN, seconds=self.seconds))
        await Join().strike(stage)
        assert rule.fired > 1, "no join was held up"
        stage.struck("joins held up", rule.fired)
        proxy.clear()


@dataclass(frozen=True, slots=True)
class RefuseCommits:
    """Answers the next commits with an error code, although they were stored.

    A code for a lost membership (22, 25) may cause a rebalance.
    """

    code: int
    times: int = 3

    async def strike(self, stage: Stage) -> None:
        """Rewrite the answers."""
        proxy = _proxy(stage)
        rule = proxy.rule(Rule("rewrite", COMMIT, self.times, change=commit_codes(self.code)))
        await until(lambda: rule.fired == self.times, f"{self.times} commits are refused")
        for crew in stage.crews:
            topic = crew.topic if self.code in (22, 25, 27) else ""
            stage.struck(f"commits refused with {self.code}", self.times, topic)
        proxy.clear()


@dataclass(frozen=True, slots=True)
class LoseAnswers:
    """Cuts the connection after a batch is written, before the broker's answer arrives."""

    times: int = 3

    async def strike(self, stage: Stage) -> None:
        """Cut the connection this many times."""
        proxy = _proxy(stage)
        rule = proxy.rule(Rule("cut after", PRODUCE, self.times))
        await until(lambda: rule.fired == self.times, f"{self.times} answers are lost")
        stage.struck("produce answers lost", self.times)
        proxy.clear()
