"""Installed plugins: discovery, settings, allowing, disabling, failing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, Field, SecretStr

from kafkaesk_core.errors import PluginError
from kafkaesk_core.hooks import hookimpl
from kafkaesk_core.plugins.contract import PluginInfo
from kafkaesk_core.plugins.manager import Plugins

# Any in this file: settings have values of any type, entry points load anything.


@dataclass
class Package:
    name: str = "kafkaesk-good"
    version: str = "1.2"


@dataclass
class EntryPoint:
    """An entry point that need not be installed, and remembers whether it was imported."""

    name: str
    target: Any
    value: str = "good:Good"
    dist: Package | None = field(default_factory=Package)
    imported: int = 0

    def load(self) -> Any:
        self.imported += 1
        if isinstance(self.target, Exception):
            raise self.target
        return self.target


class Plain:
    @hookimpl
    def published(self) -> None: ...


class Good(Plain):
    class Settings(BaseModel):
        limit: int = 1
        names: list[str] = []
        ratio: float | None = None
        labels: dict[str, int] = {}
        text: str = ""
        token: SecretStr = SecretStr("")

    made: list[Good] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        Good.made.append(self)


def load(
    *entry_points: EntryPoint,
    environ: Mapping[str, str] | None = None,
    order: tuple[str, ...] = (),
    **arguments: Any,
) -> Plugins:
    plugins = Plugins(order=order)
    plugins.load_entry_points(entry_points=entry_points, environ=environ or {}, **arguments)
    return plugins


def settings_of(
    environ: Mapping[str, str] | None = None, explicit: Mapping[str, Any] | None = None
) -> Good.Settings:
    load(EntryPoint("good", Good), environ=environ, settings={"good": explicit or {}})
    return Good.made.pop().settings


def failure_of(
    target: Any, *, environ: Mapping[str, str] | None = None, explicit: Any = None
) -> tuple[PluginError, PluginInfo]:
    plugins = Plugins()
    with pytest.raises(PluginError) as caught:
        plugins.load_entry_points(
            entry_points=[EntryPoint("good", target)],
            environ=environ or {},
            settings={"good": explicit or {}},
        )
    (info,) = plugins.list()
    return caught.value, info


def test_an_installed_class_is_built_and_listed_with_its_package() -> None:
    plugins = load(EntryPoint("good", Plain, "good:Plain"))

    assert plugins.list() == [
        PluginInfo(
            name="good",
            source="kafkaesk-good",
            value="good:Plain",
            version="1.2",
            hooks=("published",),
            stage="transform",
        )
    ]


def test_a_class_without_settings_is_built_without_arguments() -> None:
    plugins = load(EntryPoint("plain", Plain))

    assert plugins.layers("published") == ["plain"]


def test_a_module_is_a_plugin_too() -> None:
    @hookimpl
    def published(message: Any) -> None: ...

    module = ModuleType("good_module")
    vars(module)["published"] = published

    plugins = load(EntryPoint("module", module, "good_module"))

    assert plugins.layers("published") == ["module"]


def test_each_application_has_an_instance_of_its_own() -> None:
    entry_point = EntryPoint("good", Good)

    load(entry_point)
    load(entry_point)

    one, two = Good.made.pop(), Good.made.pop()
    assert one is not two


def test_plugins_are_loaded_in_the_order_of_their_names() -> None:
    names: list[str] = []

    def noting(name: str) -> type[Plain]:
        def note(self: object) -> None:
            names.append(name)

        return type(name, (Plain,), {"__init__": note})

    load(*(EntryPoint(name, noting(name)) for name in "cab"))

    assert names == ["a", "b", "c"]


def test_loading_twice_leaves_loaded_plugins_as_they_are() -> None:
    plugins = load(EntryPoint("good", Good))
    loaded = Good.made.pop()

    plugins.load_entry_points(entry_points=[EntryPoint("good", Good)], environ={})

    assert Good.made == []
    assert loaded.settings.limit == 1
    assert [info.status for info in plugins.list()] == ["active"]


def test_settings_are_the_defaults_where_nothing_is_said() -> None:
    assert settings_of() == Good.Settings()


@pytest.mark.parametrize("names", ['["a", "b"]', "a, b", "a,b,"])
def test_settings_come_from_the_environment_with_lists_as_json_or_with_commas(names: str) -> None:
    settings = settings_of(
        {
            "KAFKAESK_GOOD_LIMIT": "7",
            "KAFKAESK_GOOD_NAMES": names,
            "KAFKAESK_GOOD_RATIO": "0.5",
            "KAFKAESK_GOOD_LABELS": '{"x": 1}',
            "KAFKAESK_GOOD_TEXT": '{"kept": "as text"}',
            "KAFKAESK_GOOD_TOKEN": "hush",
            "KAFKAESK_GOODNESS": "someone else's",
        }
    )

    assert settings == Good.Settings(
        limit=7,
        names=["a", "b"],
        ratio=0.5,
        labels={"x": 1},
        text='{"kept": "as text"}',
        token=SecretStr("hush"),
    )


def test_explicit_settings_come_before_the_environment_before_defaults() -> None:
    settings = settings_of(
        {"KAFKAESK_GOOD_LIMIT": "7", "KAFKAESK_GOOD_TEXT": "environment"}, {"limit": 9}
    )

    assert (settings.limit, settings.text, settings.names) == (9, "environment", [])


def test_a_dash_in_a_plugin_s_name_is_an_underscore_in_the_variable() -> None:
    load(EntryPoint("dead-letter", Good), environ={"KAFKAESK_DEAD_LETTER_LIMIT": "3"})

    assert Good.made.pop().settings.limit == 3


def test_a_field_with_an_alias_is_set_by_its_name_or_its_alias() -> None:
    class Aliased(Plain):
        class Settings(BaseModel):
            limit: int = Field(1, alias="maximum")
            floor: int = Field(1, validation_alias=AliasChoices("minimum", "least"))

        def __init__(self, settings: Settings) -> None:
            got.append((settings.limit, settings.floor))

    got: list[tuple[int, int]] = []

    environ = {"KAFKAESK_GOOD_LIMIT": "2", "KAFKAESK_GOOD_FLOOR": "3"}
    load(EntryPoint("good", Aliased), environ=environ)
    load(EntryPoint("good", Aliased), settings={"good": {"maximum": 4, "floor": 5}})

    assert got == [(2, 3), (4, 5)]


def test_an_unknown_explicit_key_is_an_error_with_the_closest_known_one() -> None:
    error, _ = failure_of(Good, explicit={"limt": 1})

    assert "unknown key 'limt'; did you mean 'limit'? (known are enabled, limit," in str(error)


def test_unknown_keys_are_for_the_model_to_judge_when_it_allows_extra_ones() -> None:
    class Open(Plain):
        class Settings(BaseModel, extra="allow"):
            pass

        def __init__(self, settings: Settings) -> None:
            got.append(settings.model_extra)

    got: list[Any] = []

    load(EntryPoint("good", Open), settings={"good": {"anything": 1}})

    assert got == [{"anything": 1}]


def test_a_wrong_value_names_package_field_and_variable_but_never_the_value() -> None:
    environ = {"KAFKAESK_GOOD_LIMIT": "hush-hush", "KAFKAESK_GOOD_RATIO": "half"}

    error, info = failure_of(Good, environ=environ)

    assert str(error) == (
        "cannot load plugin 'good' from kafkaesk-good 1.2 (good:Good): "
        "settings of plugin 'good': limit: Input should be a valid integer, unable to parse "
        "string as an integer (KAFKAESK_GOOD_LIMIT); ratio: Input should be a valid number, "
        "unable to parse string as a number (KAFKAESK_GOOD_RATIO)\n"
        "  disable it with KAFKAESK_DISABLE_PLUGINS=good, "
        "or list the plugins to load in KAFKAESK_PLUGINS"
    )
    assert info.status == "failed"
    chain: BaseException | None = error
    while chain is not None:
        assert "hush-hush" not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_a_missing_setting_names_the_variable_to_set() -> None:
    class Needy(Plain):
        class Settings(BaseModel):
            url: str

        def __init__(self, settings: Settings) -> None: ...

    error, _ = failure_of(Needy)

    assert "url: Field required (KAFKAESK_GOOD_URL)" in str(error)


def test_broken_json_in_a_variable_is_an_error_naming_it() -> None:
    error, _ = failure_of(Good, environ={"KAFKAESK_GOOD_NAMES": '["a"'})

    assert "KAFKAESK_GOOD_NAMES is not valid JSON: " in str(error)


def test_an_object_that_is_not_json_is_an_error_naming_its_variable() -> None:
    error, _ = failure_of(Good, environ={"KAFKAESK_GOOD_LABELS": "x=1"})

    assert "KAFKAESK_GOOD_LABELS must be a JSON object" in str(error)


def test_settings_for_a_plugin_that_takes_none_are_an_error() -> None:
    error, _ = failure_of(Plain, explicit={"limit": 1})

    assert "unknown key 'limit' (known are enabled)" in str(error)


def test_settings_that_are_no_pydantic_model_are_an_error() -> None:
    class Wrong(Plain):
        class Settings:
            limit = 1

    error, _ = failure_of(Wrong)

    assert "Wrong.Settings must be a pydantic BaseModel" in str(error)


@pytest.mark.parametrize("target", [Plain, Good, ModuleType("good_module")])
@pytest.mark.parametrize(
    "how", [{"environ": {"KAFKAESK_GOOD_ENABLED": "false"}}, {"settings": {"good": {"enabled": 0}}}]
)
def test_any_plugin_can_be_switched_off_by_its_setting_enabled(target: Any, how: Any) -> None:
    plugins = load(EntryPoint("good", target), **how)

    (info,) = plugins.list()
    assert (info.status, info.reason) == ("disabled", "enabled=false")
    assert Good.made == []


def test_a_plugin_that_is_off_by_default_is_switched_on_by_its_setting() -> None:
    class Off(Plain):
        class Settings(BaseModel):
            enabled: bool = False

        def __init__(self, settings: Settings) -> None: ...

    off = load(EntryPoint("good", Off))
    on = load(EntryPoint("good", Off), environ={"KAFKAESK_GOOD_ENABLED": "yes"})

    assert [info.status for info in (*off.list(), *on.list())] == ["disabled", "active"]


def test_a_plugin_that_is_switched_off_needs_no_other_setting() -> None:
    class Needy(Plain):
        class Settings(BaseModel):
            url: str

    plugins = load(EntryPoint("good", Needy), environ={"KAFKAESK_GOOD_ENABLED": "0"})

    assert [info.status for info in plugins.list()] == ["disabled"]


def test_enabled_must_be_a_boolean() -> None:
    error, _ = failure_of(Plain, environ={"KAFKAESK_GOOD_ENABLED": "perhaps"})

    assert "enabled: Input should be a valid boolean" in str(error)
    assert "(KAFKAESK_GOOD_ENABLED)" in str(error)


def test_a_disabled_plugin_is_listed_and_never_imported() -> None:
    entry_point = EntryPoint("good", ImportError("never tried"))

    plugins = load(entry_point, disabled=frozenset({"good"}))

    (info,) = plugins.list()
    assert (info.status, info.reason) == ("disabled", "KAFKAESK_DISABLE_PLUGINS")
    assert entry_point.imported == 0


def test_only_allowed_plugins_are_imported() -> None:
    wanted, other = EntryPoint("wanted", Plain), EntryPoint("other", Plain)

    plugins = load(wanted, other, allow=frozenset({"wanted"}))

    assert [(info.name, info.status) for info in plugins.list()] == [
        ("other", "disabled"),
        ("wanted", "active"),
    ]
    assert plugins.list()[0].reason == "not in KAFKAESK_PLUGINS"
    assert (wanted.imported, other.imported) == (1, 0)


def test_disabling_wins_over_allowing() -> None:
    plugins = load(EntryPoint("good", Plain), allow={"good"}, disabled={"good"})

    assert [info.status for info in plugins.list()] == ["disabled"]


def test_allowing_what_is_not_installed_is_an_error_with_the_closest() -> None:
    with pytest.raises(PluginError) as caught:
        load(EntryPoint("good", Plain), allow={"god"})

    assert str(caught.value) == (
        "KAFKAESK_PLUGINS names 'god', which no installed package provides; "
        "did you mean 'good'? (installed are good)"
    )


def test_disabling_ordering_or_configuring_what_is_not_there_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    load(
        EntryPoint("good", Plain),
        disabled={"god"},
        order=("gold", "good"),
        settings={"goof": {"limit": 1}},
    )

    assert [record.getMessage() for record in caplog.records] == [
        "KAFKAESK_DISABLE_PLUGINS: unknown plugin 'god' is ignored; did you mean 'good'?",
        "plugin settings: unknown plugin 'goof' is ignored; did you mean 'good'?",
        "plugin order: unknown plugin 'gold' is ignored; did you mean 'good'?",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_two_packages_that_provide_one_name_are_an_error_naming_both() -> None:
    one = EntryPoint("good", Plain, dist=Package("kafkaesk-one", "1"))
    two = EntryPoint("good", Plain, dist=Package("kafkaesk-two", "2"))

    with pytest.raises(PluginError) as caught:
        load(one, two)

    assert "kafkaesk-one and by kafkaesk-two; uninstall one" in str(caught.value)
    assert (one.imported, two.imported) == (0, 0)


def test_a_name_of_two_packages_may_be_disabled() -> None:
    one = EntryPoint("good", Plain, dist=Package("kafkaesk-one", "1"))
    two = EntryPoint("good", Plain, dist=Package("kafkaesk-two", "2"))

    plugins = load(one, two, disabled={"good"})

    assert [info.source for info in plugins.list()] == ["kafkaesk-one", "kafkaesk-two"]


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        (ModuleNotFoundError("No module named 'x'"), "ModuleNotFoundError: No module named 'x'"),
        (type("Broken", (Plain,), {"__init__": lambda self: 1 / 0}), "ZeroDivisionError: "),
        (type("Wrong", (Plain,), {"stage": "out"}), "stage 'out' is not one of observe"),
        (lambda: Plain(), "it is of type function; an entry point of kafkaesk.plugins names a"),
    ],
)
def test_a_broken_plugin_stops_the_start_and_says_how_to_start_without_it(
    target: Any, cause: str
) -> None:
    error, info = failure_of(target)

    assert str(error).startswith("cannot load plugin 'good' from kafkaesk-good 1.2 (good:Good): ")
    assert cause in str(error)
    assert "KAFKAESK_DISABLE_PLUGINS=good" in str(error)
    assert error.plugin == "good"
    assert error.__cause__ is not None
    assert (info.status, info.version) == ("failed", "1.2")
    assert cause in info.reason


def test_all_broken_plugins_are_reported_at_once_and_the_others_listed() -> None:
    plugins = Plugins()
    broken = [EntryPoint(name, ImportError(name)) for name in "ac"]

    with pytest.raises(PluginError) as caught:
        plugins.load_entry_points(entry_points=[*broken, EntryPoint("b", Plain)], environ={})

    assert "plugin 'a'" in str(caught.value)
    assert "plugin 'c'" in str(caught.value)
    assert [info.status for info in plugins.list()] == ["failed", "active", "failed"]


def test_a_name_the_service_has_taken_is_an_error_and_can_be_disabled() -> None:
    plugins = Plugins()
    plugins.register(Plain(), "good")
    entry_points = [EntryPoint("good", Good)]

    with pytest.raises(PluginError, match=r"the name is taken by .*Plain from app"):
        plugins.load_entry_points(entry_points=entry_points, environ={})
    plugins.load_entry_points(entry_points=entry_points, environ={}, disabled={"good"})

    assert [(info.source, info.status) for info in plugins.list()] == [
        ("app", "active"),
        ("kafkaesk-good", "disabled"),
    ]


def test_a_plugin_that_the_service_made_itself_takes_the_place_of_the_installed_one() -> None:
    plugins = Plugins()
    own = Good(Good.Settings(limit=7))
    plugins.register(own, "good")
    before = len(Good.made)

    plugins.load_entry_points(entry_points=[EntryPoint("good", Good)], environ={})

    assert len(Good.made) == before
    assert [(info.name, info.source, info.status) for info in plugins.list()] == [
        ("good", "app", "active")
    ]
    assert plugins.layers("published") == ["good"]


def test_a_package_that_does_not_say_its_name_is_unknown() -> None:
    plugins = load(EntryPoint("good", Plain, dist=None))

    (info,) = plugins.list()
    assert info.source == "an unknown package"


def test_plugins_of_packages_installed_here_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kafkaesk_shop.py").write_text(
        "from kafkaesk_core.hooks import hookimpl\n"
        "class Shop:\n"
        "    @hookimpl\n"
        "    def published(self, message): ...\n"
    )
    information = tmp_path / "kafkaesk_shop-0.3.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: kafkaesk-shop\nVersion: 0.3\n")
    (information / "entry_points.txt").write_text("[kafkaesk.plugins]\nshop = kafkaesk_shop:Shop\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = Plugins()

    plugins.load_entry_points(allow={"shop"})

    (info,) = [info for info in plugins.list() if info.status == "active"]
    assert (info.name, info.source, info.version) == ("shop", "kafkaesk-shop", "0.3")
    assert info.value == "kafkaesk_shop:Shop"
