"""Misspelt environment variables are told at the start."""

from __future__ import annotations

from importlib import metadata

import pytest

from kafkaesk_core import Application


def warnings_of(app: Application, caplog: pytest.LogCaptureFixture) -> list[str]:
    app.load_plugins()
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("KAFKAESK_DRAIN_TIMOUT", "; did you mean 'KAFKAESK_DRAIN_TIMEOUT'?"),
        ("KAFKAESK_SERVERS", "; did you mean 'KAFKAESK_KAFKA_SERVERS'?"),
        ("KAFKAESK_DISABLE_PLUGIN", "; did you mean 'KAFKAESK_DISABLE_PLUGINS'?"),
        ("KAFKESK_DRAIN_TIMEOUT", "; did you mean 'KAFKAESK_DRAIN_TIMEOUT'?"),
        ("KAFKAESK_LOGGING_STREEM", "; did you mean 'KAFKAESK_LOGGING_STREAM'?"),
        ("KAFKAESK_LOGING_STREAM", "; did you mean 'KAFKAESK_LOGGING_STREAM'?"),
        ("KAFKAESK_HEADERS_INCLDE", "; did you mean 'KAFKAESK_HEADERS_INCLUDE'?"),
        ("KAFKAESK_XYZZY", ""),
    ],
)
def test_a_variable_that_nobody_reads_is_told(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, "3")

    told = warnings_of(Application(), caplog)

    assert told == [f"the environment variable {name} is not a setting and has no effect{hint}"]


@pytest.mark.parametrize(
    "name",
    [
        "KAFKAESK_DRAIN_TIMEOUT",
        "kafkaesk_drain_timeout",
        "KAFKAESK_LOG_LEVEL",
        "KAFKAESK_PLUGIN_ORDER",
        "KAFKAESK_LOGGING_QUEUE_SIZE",
        "KAFKAESK_HEADERS_ENABLED",
        "KAFKA_SERVERS",
        "KAFKA",
    ],
)
def test_a_variable_that_is_read_or_not_ours_is_not_told(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, "3" if "ENABLED" not in name else "true")

    assert not [text for text in warnings_of(Application(), caplog) if "environment" in text]


def test_variables_of_plugins_that_are_not_loaded_are_theirs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert any(ep.name == "logging" for ep in metadata.entry_points(group="kafkaesk.plugins"))
    monkeypatch.setenv("KAFKAESK_LOGGING_STREEM", "logs")
    monkeypatch.setenv("KAFKAESK_DISABLE_PLUGINS", "logging")

    assert warnings_of(Application(), caplog) == []
    assert warnings_of(Application(entry_points=False), caplog) == []
