"""The list of faults, and the form of each: scenarios, tests, or both."""

from __future__ import annotations

from pathlib import Path

from .rules import marked_tests
from .scenario import Scenario
from .scenarios import SCENARIOS

__all__ = ["ELSEWHERE", "ROWS", "TESTS", "scenarios_of", "tests_of"]

TESTS = Path(__file__).parents[1] / "tests"
ELSEWHERE = ("F47",)
"""Rows of plugins: logs."""

ROWS = {
    "F1": "member killed in the middle of its work",
    "F2": "member stopped in order, under load",
    "F3": "members join and leave all the time",
    "F4": "handler runs for longer than a handover waits",
    "F5": "handler fails while a rebalance waits for it",
    "F6": "handler raises each error of the Kafka client",
    "F7": "records finish out of order, then the member is killed",
    "F8": "commit refused: another generation, unknown member",
    "F9": "commit answered by a broker that is not the coordinator",
    "F10": "commit not answered",
    "F11": "commit while a join is pending",
    "F12": "coordinator killed",
    "F13": "rolling restart of all brokers",
    "F14": "partition leaders killed in a loop",
    "F15": "fewer in-sync replicas than required",
    "F16": "batch written, answer lost",
    "F17": "all brokers away for two minutes",
    "F18": "stopped while all brokers are away",
    "F19": "started while brokers are away or silent",
    "F20": "broker frozen, or behind a black hole",
    "F21": "slow connections",
    "F22": "connections cut, also in the middle of a request",
    "F23": "member frozen past its session, then thawed",
    "F24": "event loop blocked by a handler",
    "F25": "member without partitions takes over after a long idle time",
    "F26": "one slow record among many partitions",
    "F27": "order of keys under concurrency, retries and rebalances",
    "F28": "poison messages: not JSON, wrong schema, no value, odd headers",
    "F29": "member killed between a failure, its retries, its dead letter and its commit",
    "F30": "handler ignores its cancellation",
    "F31": "new topics that a pattern matches",
    "F32": "topic deleted under load, then created again",
    "F33": "partitions added under load",
    "F34": "many processes create one topic at once",
    "F35": "topic cannot be created",
    "F36": "records deleted past the group's offset",
    "F37": "committed offset moved by an operator",
    "F38": "compacted records, transaction markers, aborted transactions",
    "F39": "messages of the largest size, and larger",
    "F40": "sequence numbers lost, producer fenced",
    "F41": "wrong password, expired token, permissions revoked",
    "F42": "wall clock steps by an hour",
    "F43": "static membership: restart, and a duplicate instance id",
    "F44": "soak: everything at random",
    "F45": "plugin raises or hangs in each hook",
    "F46": "more is published than is handled",
    "F48": "thawed owner commits late",
    "F49": "commit in flight while its partition moves",
    "F50": "permission to read the group revoked and granted again",
    "F51": "one message too large, or not authorized, among valid ones",
    "F52": "members come and go while handlers commit by hand",
    "F53": "member stopped while its join waits for others",
}


def scenarios_of(row: str) -> list[Scenario]:
    """Return the scenarios of a row."""
    return [scenario for scenario in SCENARIOS if scenario.row == row]


def tests_of(row: str) -> list[str]:
    """Return the tests marked with a row, as "path::name", without parameters."""
    return [test.name for test in marked_tests().get(row.lower(), ())]
