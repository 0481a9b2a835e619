"""The faults that need processes, brokers and time, as data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .broker_faults import (
    FreezeBroker,
    KillBroker,
    LoseMajority,
    MoveLeaders,
    Outage,
    RestartBrokers,
    StopInOutage,
)
from .member_faults import (
    FreezeMember,
    FreezeOwner,
    KillAt,
    KillMember,
    KillOwner,
    LeaveAndJoin,
    StopMember,
    StopWhileJoining,
)
from .network_faults import (
    Blackhole,
    Cut,
    CutAtBytes,
    HoldCommits,
    HoldJoins,
    LoseAnswers,
    RefuseCommits,
    Throttle,
    Unreachable,
)
from .points import POINTS
from .record_faults import (
    Blocked,
    EndInMarkers,
    FailedWhileJoining,
    Overrun,
    Poisoned,
    SlowPartition,
    Transactions,
)
from .scenario import Limits, Scenario
from .topic_faults import AddPartitions, Flood, NewTopic
from .workload import Workload

__all__ = ["SCENARIOS"]

SESSION = 2.0
MEMBER: dict[str, Any] = {
    "session_timeout_ms": int(SESSION * 1000),
    "heartbeat_interval_ms": 300,
    "request_timeout_ms": 35_000,
}
PATIENT = {**MEMBER, "session_timeout_ms": 20_000, "heartbeat_interval_ms": 1000}

PARTITION = Workload("partition", kafka_settings=MEMBER)
KEY = Workload("key", ordering="key", concurrency=16, kafka_settings=MEMBER)
UNORDERED = Workload("unordered", ordering="unordered", concurrency=16, kafka_settings=MEMBER)
PATIENT_BATCHES = Workload("batches", is_batched=True, kafka_settings=PATIENT)
MODES = (PARTITION, KEY, UNORDERED)
PATIENT_MODES = tuple(replace(mode, kafka_settings=PATIENT) for mode in MODES)
PATIENT_PARTITION, PATIENT_KEY, PATIENT_UNORDERED = PATIENT_MODES

STOP = 25.5
"""Seconds of a stop: those of shutdown_timeout, and the end of the process."""

TAKEOVER = Limits(pause=SESSION + 3.0)
STAYS = Limits(unexpected_rebalances=0)
OVERRUN = "a handler outlives drain_timeout, so the records after its own are not committed (D24)"
RETRIED = "a record waits for its retry, so the records after it are not committed (D24)"
UNSENT = "the fault prevents the last commit, or its answer"

SCENARIOS = (
    Scenario("F1", "members killed", "fast", MODES, (KillMember(),), 70, 2, limits=TAKEOVER),
    Scenario("F2", "members stopped", "fast", PATIENT_MODES, (StopMember(),), 55, 2),
    Scenario("F3", "members come and go", "fast", PATIENT_MODES, (LeaveAndJoin(),), 55),
    Scenario(
        "F3", "batches, members come and go", "fast", (PATIENT_BATCHES,), (LeaveAndJoin(),), 10
    ),
    Scenario(
        "F4",
        "a handler overruns its drain",
        "fast",
        tuple(replace(mode, tuning={"drain_timeout": 2.0, "cancel_grace": 0.5}) for mode in MODES),
        (Overrun(15.0, limit=14.0), Overrun(15.0, limit=14.0, ignores=True)),
        limits=Limits(repeats=OVERRUN),
    ),
    Scenario(
        "F5",
        "a handler fails in a handover",
        "fast",
        MODES,
        (FailedWhileJoining(4.0),),
        5,
        limits=Limits(repeats=OVERRUN),
    ),
    Scenario(
        "F7",
        "members killed, completion out of order",
        "fast",
        (replace(UNORDERED, handling=(0.0, 0.2), concurrency=64, retried=0.02),),
        (KillMember(),),
        15,
        limits=replace(TAKEOVER, repeats=RETRIED),
    ),
    Scenario(
        "F8",
        "commits refused",
        "proxy",
        MODES,
        (RefuseCommits(22), RefuseCommits(25), RefuseCommits(27)),
        3,
        limits=Limits(repeats=UNSENT),
    ),
    Scenario(
        "F9",
        "commits answered by another broker",
        "proxy",
        PATIENT_MODES,
        (RefuseCommits(14), RefuseCommits(15), RefuseCommits(16), RefuseCommits(7)),
        3,
        limits=STAYS,
    ),
    Scenario(
        "F10",
        "commits not answered",
        "proxy",
        PATIENT_MODES,
        (HoldCommits("drop"),),
        2,
        limits=Limits(repeats=UNSENT),
    ),
    Scenario(
        "F10", "coordinator frozen", "fast", PATIENT_MODES, (FreezeBroker(8.0, "coordinator"),), 2
    ),
    Scenario("F11", "joins answered late", "proxy", PATIENT_MODES, (HoldJoins(5.0),), 2),
    Scenario(
        "F12",
        "coordinator killed",
        "fast",
        PATIENT_MODES,
        (KillBroker("coordinator"),),
        10,
        limits=Limits(pause=5.0, commit_pause=5.0, unexpected_rebalances=0),
    ),
    Scenario(
        "F12",
        "coordinator and leader killed",
        "stock",
        PATIENT_MODES,
        (KillBroker("coordinator", down=20.0), KillBroker("leader", down=20.0)),
        2,
        limits=Limits(pause=15.0, commit_pause=15.0),
    ),
    Scenario(
        "F13",
        "rolling restart of brokers",
        "fast",
        PATIENT_MODES,
        (RestartBrokers(),),
        10,
        limits=STAYS,
    ),
    Scenario(
        "F14",
        "leader killed",
        "fast",
        PATIENT_MODES,
        (KillBroker("leader"), MoveLeaders()),
        10,
        limits=Limits(pause=5.0, unexpected_rebalances=0),
    ),
    Scenario(
        "F15",
        "too few replicas",
        "fast",
        tuple(
            replace(
                mode,
                publishing={"delivery_timeout": 6.0},
                publisher_settings={"request_timeout_ms": 5000},
            )
            for mode in PATIENT_MODES
        ),
        (LoseMajority(12.0),),
    ),
    Scenario("F16", "produce answers lost", "proxy", PATIENT_MODES, (LoseAnswers(5),), 4),
    Scenario("F17", "all brokers away", "fast", PATIENT_MODES, (Outage(120.0),)),
    Scenario(
        "F18",
        "stopped while all brokers are away",
        "fast",
        PATIENT_MODES,
        (StopInOutage(limit=STOP),),
        2,
        limits=Limits(repeats=UNSENT),
    ),
    Scenario(
        "F18",
        "stopped while brokers are away, handlers sleep and publish",
        "fast",
        tuple(replace(mode, answers=True) for mode in PATIENT_MODES),
        (
            StopInOutage(limit=STOP, sleeping=30.0),
            StopInOutage(limit=STOP, are="frozen", sleeping=30.0),
        ),
        limits=Limits(repeats=f"{UNSENT}; {OVERRUN}"),
    ),
    Scenario(
        "F19",
        "started while brokers are unreachable",
        "proxy",
        PATIENT_MODES,
        (Unreachable(6.0), Unreachable(6.0, "blackhole")),
    ),
    Scenario("F20", "broker frozen", "fast", PATIENT_MODES, (FreezeBroker(14.0),), 2),
    Scenario(
        "F20", "broker behind a black hole", "proxy", PATIENT_MODES, (Blackhole(15.0, 13.0),), 4
    ),
    Scenario(
        "F21",
        "slow connections",
        "proxy",
        (replace(PATIENT_PARTITION, rate=50),),
        (Throttle(20.0),),
        limits=STAYS,
    ),
    Scenario(
        "F22",
        "connections cut",
        "proxy",
        PATIENT_MODES,
        (Cut(), Cut(everywhere=True)),
        25,
        1,
        limits=STAYS,
    ),
    Scenario(
        "F22",
        "connections cut in the middle",
        "proxy",
        PATIENT_MODES,
        (CutAtBytes(),),
        60,
        limits=STAYS,
    ),
    Scenario("F23", "members frozen past their session", "fast", MODES, (FreezeMember(5.0),), 8),
    Scenario("F24", "event loop blocked past the session", "fast", MODES, (Blocked(5.0),), 2),
    Scenario(
        "F25",
        "owner killed after others stood by",
        "fast",
        tuple(
            replace(
                mode,
                partitions=1,
                workers=3,
                kafka_settings={**MEMBER, "max_poll_interval_ms": 3000},
            )
            for mode in MODES
        ),
        (KillOwner(after=6.0),),
        2,
        limits=TAKEOVER,
    ),
    Scenario(
        "F26",
        "one slow record",
        "fast",
        (replace(PATIENT_PARTITION, tuning={"max_record_age": 4.0}, rate=600),),
        (SlowPartition(10.0),),
        limits=STAYS,
    ),
    Scenario(
        "F27",
        "order of keys, retries, rebalances",
        "fast",
        (replace(KEY, concurrency=64, retried=0.02, handling=(0.0, 0.02)),),
        (LeaveAndJoin(),),
        12,
        limits=Limits(repeats=RETRIED),
    ),
    Scenario("F28", "poison", "fast", PATIENT_MODES, (Poisoned(),), 3, limits=STAYS),
    Scenario(
        "F29",
        "members killed between failure, retry, dead letter and commit",
        "fast",
        tuple(replace(mode, dying=0.01) for mode in MODES),
        tuple(KillAt(point) for point in POINTS),
        6,
        limits=replace(TAKEOVER, repeats=RETRIED),
    ),
    Scenario(
        "F31",
        "new topics that a pattern matches",
        "fast",
        tuple(replace(mode, is_pattern=True, rate=300) for mode in MODES),
        (NewTopic(limit=10.0),),
        5,
    ),
    Scenario(
        "F31",
        "new topics of a group that starts at the end, members join",
        "fast",
        tuple(
            replace(mode, is_pattern=True, starts_at_end=True, rate=300) for mode in PATIENT_MODES
        ),
        (NewTopic(limit=10.0, joins=True),),
        3,
    ),
    Scenario(
        "F33",
        "partitions added",
        "fast",
        tuple(
            replace(mode, publisher_settings={"metadata_max_age_ms": 1000})
            for mode in (PARTITION, UNORDERED)
        ),
        (AddPartitions(),),
        2,
    ),
    Scenario(
        "F38",
        "the log ends in markers of transactions",
        "fast",
        tuple(
            replace(
                mode,
                starts_at_end=True,
                rate=300,
                kafka_settings={**PATIENT, "isolation_level": "read_committed"},
            )
            for mode in PATIENT_MODES
        ),
        (Transactions(), EndInMarkers()),
        2,
        records=0,
    ),
    Scenario(
        "F42",
        "wall clock steps by an hour",
        "fast",
        tuple(replace(mode, steps_clock=True) for mode in MODES),
        (LeaveAndJoin((1.0, 2.0)),),
        4,
    ),
    Scenario(
        "F46",
        "more is published than handled",
        "fast",
        (
            replace(
                PATIENT_UNORDERED,
                workers=1,
                rate=3000,
                concurrency=8,
                handling=(0.01, 0.01),
                tuning={"max_uncommitted": 2000, "fetch_buffer_bytes": 4 * 2**20},
            ),
        ),
        (Flood(30.0, most=16.0),),
    ),
    Scenario("F48", "a thawed owner commits late", "fast", MODES, (FreezeOwner(4.0),), 2),
    Scenario(
        "F49",
        "commits in flight while partitions move",
        "proxy",
        PATIENT_MODES,
        (HoldCommits("delay", 3.0),),
        3,
        limits=Limits(repeats=UNSENT),
    ),
    Scenario(
        "F52",
        "members come and go, handlers commit",
        "fast",
        tuple(
            replace(
                mode,
                name=f"{mode.name}{'-automatic' if is_automatic else ''}",
                commits_by_hand=True,
                workers=2,
                rate=200,
                tuning={"auto_commit": is_automatic},
            )
            for mode in PATIENT_MODES
            for is_automatic in (False, True)
        ),
        (LeaveAndJoin(),),
        6,
    ),
    Scenario(
        "F53",
        "a member stopped while its join waits",
        "fast",
        PATIENT_MODES,
        (StopWhileJoining(),),
        3,
    ),
)
