"""The faults that need processes, brokers and time, as data."""

from __future__ import annotations

from dataclasses import replace

from .faults import (
    Blackhole,
    Cut,
    CutAtBytes,
    FreezeBroker,
    FreezeMember,
    KillBroker,
    KillMember,
    LeaveAndJoin,
    MoveLeaders,
    Outage,
    RestartBrokers,
    StopMember,
    Throttle,
)
from .scenario import Limits, Scenario
from .workload import Workload

__all__ = ["SCENARIOS"]

SESSION = 2.0
MEMBER = {
    "session_timeout_ms": int(SESSION * 1000),
    "heartbeat_interval_ms": 300,
    "request_timeout_ms": 35_000,
}

PARTITION = Workload("partition", kafka_settings=MEMBER)
KEY = Workload("key", ordering="key", concurrency=16, kafka_settings=MEMBER)
UNORDERED = Workload("unordered", ordering="unordered", concurrency=16, kafka_settings=MEMBER)
BATCHES = Workload("batches", is_batched=True, kafka_settings=MEMBER)
MODES = (PARTITION, KEY, UNORDERED)

PATIENT = {**MEMBER, "session_timeout_ms": 20_000, "heartbeat_interval_ms": 1000}
PATIENT_MODES = tuple(replace(workload, kafka_settings=PATIENT) for workload in MODES)

TAKEOVER = Limits(pause=SESSION + 3.0)

SCENARIOS = (
    Scenario("F1", "members killed", "fast", MODES, (KillMember(),), 70, 3, limits=TAKEOVER),
    Scenario("F2", "members stopped", "fast", MODES, (StopMember(),), 55, 3),
    Scenario("F3", "members come and go", "fast", MODES, (LeaveAndJoin(),), 55, 2),
    Scenario("F3", "batches, members come and go", "fast", (BATCHES,), (LeaveAndJoin(),), 10),
    Scenario(
        "F7",
        "members killed, completion out of order",
        "fast",
        (replace(UNORDERED, handling=(0.0, 0.2), concurrency=64, retried=0.02),),
        (KillMember(),),
        15,
        limits=TAKEOVER,
    ),
    Scenario(
        "F12",
        "coordinator killed",
        "fast",
        PATIENT_MODES,
        (KillBroker("coordinator"),),
        10,
        1,
        limits=Limits(pause=5.0, commit_pause=5.0, unexpected_rebalances=0),
    ),
    Scenario(
        "F13",
        "brokers restarted one after the other",
        "fast",
        PATIENT_MODES,
        (RestartBrokers(),),
        10,
        1,
        limits=Limits(unexpected_rebalances=0),
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
        "F12",
        "coordinator and leader killed",
        "stock",
        PATIENT_MODES,
        (KillBroker("coordinator", down=20.0), KillBroker("leader", down=20.0)),
        2,
        limits=Limits(pause=15.0, commit_pause=15.0),
    ),
    Scenario("F17", "all brokers away", "fast", PATIENT_MODES, (Outage(120.0),), 1),
    Scenario("F20", "broker frozen", "fast", PATIENT_MODES, (FreezeBroker(12.0),), 3),
    Scenario("F20", "broker unreachable", "proxy", PATIENT_MODES, (Blackhole(12.0),), 5),
    Scenario("F21", "slow connections", "proxy", (replace(PARTITION, rate=50),), (Throttle(20.0),)),
    Scenario("F22", "connections cut", "proxy", MODES, (Cut(), Cut(everywhere=True)), 30),
    Scenario("F22", "connections cut in the middle", "proxy", MODES, (CutAtBytes(),), 60),
    Scenario("F23", "members frozen past their session", "fast", MODES, (FreezeMember(6.0),), 10),
)
