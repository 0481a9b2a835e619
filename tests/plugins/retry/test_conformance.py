"""But for its answers to failures, the plugin passes on what passes through it."""

from __future__ import annotations

from kafkaesk_retry import RetryPlugin
from kafkaesk_testing import check_plugin


def test_the_plugin_conforms_but_for_its_answers_to_failures() -> None:
    check_plugin(RetryPlugin(), answers_failures=True)
