"""What scenarios wait for is what the product says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kafkaesk_core
from faults.member_faults import REASONS

CORE = Path(kafkaesk_core.__file__).parent


def texts() -> list[str]:
    return [
        node.value
        for path in CORE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_that_a_scenario_waits_for_is_a_text_of_the_core(reason: str) -> None:
    assert any(reason in text for text in texts())
