"""Which changes of a model are compatible in which mode, and what the check says of the others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kafkaesk_core import Application
from kafkaesk_schemas.contract import describe_refusal
from kafkaesk_schemas.modes import Mode
from kafkaesk_schemas.review import Finding, Review
from tests.plugins.schemas.changes import CHANGES, CONVERTED, Reason

MODES: tuple[Mode, ...] = ("backward", "forward", "full")
Findings = Mapping[Mode, Mapping[str, list[Finding]]]


@pytest.fixture(scope="module")
def findings() -> Findings:
    """What the check says of one application with all changes, in each mode, by change."""
    app = Application(entry_points=False)
    for name, change in CHANGES.items():
        app.schema(name, version=1)(change.old)
        app.schema(name, version=2)(change.new)
    found: dict[Mode, dict[str, list[Finding]]] = {}
    for mode in MODES:
        by_change = found.setdefault(mode, {})
        for finding in Review(app, {}, mode).findings():
            by_change.setdefault(finding.schema.partition(":")[0], []).append(finding)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_has_the_right_answer_and_reason(
    name: str, mode: Mode, findings: Findings
) -> None:
    change = CHANGES[name]
    expected: dict[str, Reason] = {}
    if mode in ("backward", "full"):
        expected[f"{name}:2"] = change.backward
    if mode in ("forward", "full"):
        expected[f"{name}:1"] = change.forward

    found = {each.reader: each for each in findings[mode][name]}

    assert found.keys() == expected.keys()
    for reader, reason in expected.items():
        assert found[reader].answer == answer_of(reason), found[reader]
        if reason:
            told = [(each.path, each.reason) for each in found[reader].details]
            assert any(reason[0] == path and reason[1] in text for path, text in told), told


def answer_of(reason: Reason) -> str:
    if reason is None:
        return "compatible"
    return "unknown" if reason[1] == CONVERTED else "incompatible"


@pytest.mark.parametrize("name", [name for name in CHANGES if CHANGES[name].backward])
def test_the_message_of_a_refusal_is_written_by_the_old_model_and_refused_by_the_new(
    name: str, findings: Findings
) -> None:
    change = CHANGES[name]

    (finding,) = findings["backward"][name]

    assert finding.details
    for detail in finding.details:
        assert describe_refusal(change.old, detail.message) is None
        assert describe_refusal(change.new, detail.message) == detail.error


def test_there_are_forty_changes() -> None:
    assert len(CHANGES) >= 40
