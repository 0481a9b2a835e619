"""How servers are written, by argument, environment and command line; settings of old versions."""

from __future__ import annotations

from typing import Any

import pytest

from kafkaesk_core import Application, ConfigurationError

URL = "embedded://?topics=orders,audit&partitions=7"


@pytest.mark.parametrize(
    ("given", "servers"),
    [
        ("a:1", ("a:1",)),
        (" a:1 , b:2,", ("a:1", "b:2")),
        (["a:1", "b:2"], ("a:1", "b:2")),
        (["a:1,b:2", "c:3"], ("a:1", "b:2", "c:3")),
        (URL, (URL,)),
        ([URL], (URL,)),
        (f" {URL}", (URL,)),
        ('["a:1", "b:2"]', ("a:1", "b:2")),
        ("[::1]:1, b:2", ("[::1]:1", "b:2")),
        ("", ()),
    ],
)
def test_addresses_are_split_at_commas_and_urls_are_not(
    given: Any, servers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_argument, by_option = Application(given), Application()
    by_option.override(kafka_servers=given)
    found = [by_argument.settings.kafka_servers, by_option.settings.kafka_servers]
    if isinstance(given, str):
        monkeypatch.setenv("KAFKAESK_KAFKA_SERVERS", given)
        found.append(Application().settings.kafka_servers)

    assert found == [servers] * len(found)


async def test_a_url_beside_addresses_is_refused() -> None:
    app = Application(["a:1", URL], entry_points=False)

    with pytest.raises(ConfigurationError, match=r"mixes .* with 1 other address"):
        await app.initialize()


@pytest.mark.parametrize("server", ["a", "a:", ":1", "a:b", "a:99999", "http//a:1/x", "a b:1"])
async def test_what_is_no_address_is_refused_before_anything_connects(server: str) -> None:
    app = Application([server], entry_points=False)

    with pytest.raises(ConfigurationError, match=r"has '.*', which is not an address; .*host:port"):
        await app.initialize()


@pytest.mark.d26
def test_the_commit_interval_of_old_kafka_settings_is_taken_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kafkaesk 0.8's users have it there."""
    old = {"auto_commit_interval_ms": 500, "linger_ms": 5}

    app = Application("a:1", kafka_settings=old)

    assert app.settings.auto_commit_interval_ms == 500
    assert app.settings.kafka_settings == {"linger_ms": 5}
    assert old == {"auto_commit_interval_ms": 500, "linger_ms": 5}


def test_old_kafka_settings_are_taken_over_from_every_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured, environment, overridden = Application(), Application(), Application()
    configured.configure(kafka_settings={"auto_commit_interval_ms": 500})
    overridden.override(kafka_settings={"auto_commit_interval_ms": 600, "api_version": "2.0"})

    assert configured.settings.auto_commit_interval_ms == 500
    assert overridden.settings.auto_commit_interval_ms == 600
    assert overridden.settings.kafka_api_version == "2.0"
    monkeypatch.setenv("KAFKAESK_KAFKA_SETTINGS", '{"auto_commit_interval_ms": 700}')
    assert environment.settings.auto_commit_interval_ms == 700


def test_two_commit_intervals_that_differ_are_both_told() -> None:
    with pytest.raises(ConfigurationError, match=r"'auto_commit_interval_ms'\] is 500, but .* 600"):
        Application(kafka_settings={"auto_commit_interval_ms": 500}, auto_commit_interval_ms=600)


@pytest.mark.parametrize("value", ["soon", 0, True])
def test_a_wrong_commit_interval_of_old_kafka_settings_is_told(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="auto_commit_interval_ms must be"):
        Application(kafka_settings={"auto_commit_interval_ms": value})


def test_an_environment_variable_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKAESK_KAFKA_SETTINGS", "{linger_ms: 5}")

    with pytest.raises(ConfigurationError, match="KAFKAESK_KAFKA_SETTINGS is not valid JSON"):
        _ = Application().settings
