"""Settings: precedence, types, and what must hold between them (D26, D27)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from kafkaesk_core import Application
from kafkaesk_core.errors import ConfigurationError, NotConfiguredError
from kafkaesk_core.settings import Settings, merge_settings

SERVERS = {"kafka_servers": ["localhost:9092"]}


def test_defaults_hold_together() -> None:
    merge_settings(SERVERS).check()


def test_the_environment_wins_over_what_was_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKAESK_PARTITIONS", "3")
    monkeypatch.setenv("KAFKAESK_KAFKA_SERVERS", "a:1, b:2")
    monkeypatch.setenv("KAFKAESK_KAFKA_SETTINGS", '{"linger_ms": 5}')
    monkeypatch.setenv("KAFKAESK_AUTO_COMMIT", "false")

    settings = merge_settings({"partitions": 9, **SERVERS})

    assert settings.partitions == 3
    assert settings.kafka_servers == ("a:1", "b:2")
    assert settings.kafka_settings == {"linger_ms": 5}
    assert settings.auto_commit is False


def test_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKAESK_PARTITIONS", "3")

    settings = merge_settings({"partitions": 9}, overrides={"partitions": 5})

    assert settings.partitions == 5


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKAESK_START_TIMEOUT", "soon")

    with pytest.raises(ConfigurationError, match="KAFKAESK_START_TIMEOUT"):
        merge_settings(SERVERS)


def test_servers_are_required_and_the_ways_to_give_them_are_told() -> None:
    with pytest.raises(NotConfiguredError, match=r"configure.*KAFKAESK_KAFKA_SERVERS.*--kafka"):
        merge_settings({}).check()


@pytest.mark.rule_18
@pytest.mark.u22
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"drain_timeout": 25.0}, r"37s.*rebalance_timeout_ms 30s.*drain_timeout \(25s\)"),
        ({"shutdown_timeout": 10.0}, r"shutdown_timeout 10s.*22s"),
        ({"delivery_timeout": 20.0}, r"delivery_timeout 20s.*request_timeout_ms 30s"),
        (
            {"kafka_settings": {"request_timeout_ms": 30_000}},
            r"request_timeout_ms 30s.*rebalance_timeout_ms 30s",
        ),
        ({"send_buffer_bytes": 1000}, r"send_buffer_bytes 1000.*max_request_size 1048576"),
        (
            {"fetch_buffer_bytes": 1000},
            r"fetch_buffer_bytes 1000.*max_partition_fetch_bytes 1048576",
        ),
    ],
)
def test_values_that_contradict_each_other_are_both_told(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        check_all(merge_settings(SERVERS, values))


def test_a_service_that_only_publishes_may_have_short_request_timeouts() -> None:
    """How partitions are handed over concerns consumers only."""
    settings = merge_settings(SERVERS, {"kafka_settings": {"request_timeout_ms": 5000}})

    settings.check()

    with pytest.raises(ConfigurationError, match="request_timeout_ms 5s of the consumer"):
        settings.check_handover()


def check_all(settings: Settings) -> None:
    settings.check()
    settings.check_handover()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"partitions": 0}, "partitions"),
        ({"start_timeout": -1}, "start_timeout"),
        ({"partition": 3}, "partition"),
        ({"auto_commit": "perhaps"}, "auto_commit"),
    ],
)
def test_wrong_types_and_names_are_told_at_once(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        merge_settings(SERVERS, values)


def calls_of(read: Callable[[], object]) -> int:
    """How many Python functions are called."""
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        read()
    finally:
        sys.setprofile(None)
    return calls


def test_settings_are_cheap_to_read_again_and_follow_every_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each read made a model of the environment anew, with some thousand calls."""
    monkeypatch.setenv("KAFKAESK_PARTITIONS", "5")
    monkeypatch.setenv("KAFKAESK_KAFKA_SETTINGS", '{"client_id": "one"}')
    app = Application("a:1", entry_points=False)
    assert app.settings.partitions == 5

    assert calls_of(lambda: app.settings) < 600
    dict.update(app.settings.kafka_settings, client_id="of the caller alone")
    assert app.settings.kafka_settings == {"client_id": "one"}
    app.configure(topic_prefix="p.", partitions=7)
    assert (app.settings.topic_prefix, app.settings.partitions) == ("p.", 5)
    monkeypatch.setenv("KAFKAESK_PARTITIONS", "6")
    assert app.settings.partitions == 6
    monkeypatch.delenv("KAFKAESK_PARTITIONS")
    assert app.settings.partitions == 7
    app.override(partitions=8)
    assert app.settings.partitions == 8
    monkeypatch.setenv("KAFKAESK_PARTITIONS", "many")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="KAFKAESK_PARTITIONS"):
            _ = app.settings
