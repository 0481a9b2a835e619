"""The faults that are also used to measure other libraries."""

from __future__ import annotations

from dataclasses import replace

from .broker_faults import KillBroker
from .member_faults import KillMember, StopMember
from .record_faults import FailedWhileJoining, Poisoned, SlowPartition
from .scenario import Limits, Scenario
from .scenarios import MEMBER, OVERRUN, PATIENT
from .workload import Library, Workload

__all__ = ["COMPARED"]

LIBRARIES: tuple[Library, ...] = ("kafkaesk", "kafkaesk-0.8", "faststream")
ONE = Workload("compared", rate=300, kafka_settings=MEMBER)
PATIENT_ONE = replace(ONE, kafka_settings=PATIENT)

CASES = (
    Scenario("F1", "compared: members killed", "fast", (ONE,), (KillMember(),), 10),
    Scenario("F2", "compared: members stopped", "fast", (ONE,), (StopMember(),), 10),
    Scenario(
        "F5",
        "compared: failure in a handover",
        "fast",
        (ONE,),
        (FailedWhileJoining(4.0),),
        3,
        limits=Limits(repeats=OVERRUN),
    ),
    Scenario(
        "F7",
        "compared: slow handlers, members killed",
        "fast",
        (replace(ONE, handling=(0.0, 0.02), rate=150),),
        (KillMember(),),
        6,
    ),
    Scenario(
        "F12",
        "compared: coordinator killed",
        "fast",
        (PATIENT_ONE,),
        (KillBroker("coordinator"),),
        3,
    ),
    Scenario(
        "F26",
        "compared: one slow record",
        "fast",
        (replace(PATIENT_ONE, tuning={"max_record_age": 4.0}),),
        (SlowPartition(10.0),),
    ),
    Scenario("F28", "compared: poison", "fast", (PATIENT_ONE,), (Poisoned(),)),
)

COMPARED = tuple(
    replace(case, workloads=tuple(replace(w, library=library) for w in case.workloads))
    for case in CASES
    for library in LIBRARIES
)
