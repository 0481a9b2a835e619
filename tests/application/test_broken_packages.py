"""What installed packages get wrong is told in one line, and hides nothing of the others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from kafkaesk_core.app_finder import find_application
from kafkaesk_core.bootstrap import open_bootstrap
from kafkaesk_core.cli import cli
from kafkaesk_core.errors import ConfigurationError
from kafkaesk_core.settings import Settings

GOOD = """
from kafkaesk_core import hookimpl

class Plugin:
    @hookimpl
    def health(self):
        return []
"""
EXITS = """
import sys
import kafkaesk_core

app = kafkaesk_core.Application()

@app.on("initialize")
async def leave():
    sys.exit(9)
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package with one entry point; its module has the package's name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    installed = []

    def add(
        package: str, code: str, *, group: str = "plugins", name: str = "", value: str = ""
    ) -> None:
        information = tmp_path / f"{package}-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Name: {package}\nVersion: 1\n")
        entry = f"{name or package} = {value or f'{package}:Plugin'}"
        (information / "entry_points.txt").write_text(f"[kafkaesk.{group}]\n{entry}\n")
        (tmp_path / f"{package}.py").write_text(code)
        installed.append(package)

    yield add
    for package in installed:
        sys.modules.pop(package, None)


def kafkaesk(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="kafkaesk")


def row(result: Result, name: str) -> str:
    (found,) = (line for line in result.stdout.splitlines() if line.startswith(f"{name} "))
    return " ".join(found.split())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit(7)", "SystemExit: 7"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
        ("class Plugin:\n    def __init__(self): raise SystemExit('bye')", "SystemExit: bye"),
        ("raise ValueError('one\\n  two')", "ValueError: one two"),
        ("Plugin = 42", "it is of type int; an entry point of kafkaesk.plugins names a plugin's"),
        ("Plugin = 'text'", "it is of type str; an entry point"),
        ("Plugin = None", "it is of type NoneType; an entry point"),
        ("def Plugin(): pass", "it is of type function; an entry point"),
        ("class Plugin: pass", "Plugin implements no hook; decorate its methods with @hookimpl"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_named_with_the_reason_and_the_remedy(
    install: Install, code: str, reason: str
) -> None:
    install("wrong", code)
    install("sound", GOOD)

    result = kafkaesk("plugins")

    assert result.exit_code == 4
    assert row(result, "wrong").startswith("wrong 1 wrong (wrong:Plugin) failed - ")
    assert reason in row(result, "wrong")
    assert row(result, "sound") == "sound 1 sound (sound:Plugin) active health"
    assert "cannot load plugin 'wrong' from wrong 1 (wrong:Plugin): " in result.stderr
    assert "disable it with KAFKAESK_DISABLE_PLUGINS=wrong" in result.stderr


def test_an_interrupt_while_plugins_are_loaded_ends_the_command(install: Install) -> None:
    install("wrong", "raise KeyboardInterrupt")

    assert "Aborted!" in kafkaesk("plugins").stderr


def test_an_entry_point_that_names_nothing_is_shown(install: Install) -> None:
    install("wrong", "", value="a b c:??")

    result = kafkaesk("plugins")

    assert "ImportError: the entry point 'a b c:??' is not module:attribute" in row(result, "wrong")


def test_a_package_without_metadata_is_listed(install: Install, tmp_path: Path) -> None:
    install("sound", GOOD)
    (tmp_path / "sound-1.dist-info" / "METADATA").unlink()

    assert row(kafkaesk("plugins"), "sound") == (
        "sound an unknown package (sound:Plugin) active health"
    )


def test_a_wanted_plugin_that_is_not_installed_is_listed_beside_the_others(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("sound", GOOD)
    monkeypatch.setenv("KAFKAESK_PLUGINS", "sound,missing")

    result = kafkaesk("plugins")

    assert result.exit_code == 4
    assert row(result, "missing").startswith("missing no package failed - KAFKAESK_PLUGINS names")
    assert " active " in row(result, "sound")
    assert "KAFKAESK_PLUGINS names 'missing', which no installed package" in result.stderr


def test_what_a_plugin_prints_is_no_part_of_the_list(install: Install) -> None:
    install("sound", f"print('hello')\n{GOOD}")

    result = kafkaesk("plugins", "--json")

    assert "hello" in result.stderr
    assert "sound" in {info["name"] for info in json.loads(result.stdout)["plugins"]}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import not_there", "cannot be loaded: ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("Plugin = 3", "is of type int, not a click command"),
    ],
)
def test_a_command_that_cannot_be_loaded_is_told_in_one_line(
    install: Install, code: str, reason: str
) -> None:
    install("wrong", code, group="commands")

    listed, called = kafkaesk("--help"), kafkaesk("wrong")

    assert listed.exit_code == 0
    assert reason in " ".join(listed.stdout.split())
    assert called.exit_code == 4
    assert f"Error: the command 'wrong' of wrong 1 (wrong:Plugin) {reason}" in called.stderr


def test_words_are_completed_beside_a_command_that_cannot_be_loaded(install: Install) -> None:
    install("plagued", "import not_there", group="commands")

    found = ShellComplete(cli, {}, "kafkaesk", "_X").get_completions([], "pl")

    assert {"plagued", "plugins"} <= {item.value for item in found}


def test_two_packages_with_one_command_are_named(install: Install) -> None:
    install("one", "", group="commands", name="same")
    install("two", "", group="commands", name="same")

    assert "the command 'same' is provided by one and by two; uninstall" in kafkaesk("same").stderr


def test_two_packages_with_one_application_are_named(install: Install) -> None:
    install("one", "", group="apps", name="same")
    install("two", "", group="apps", name="same")

    with pytest.raises(ConfigurationError, match="'same' is provided by one and by two; uninstall"):
        find_application("same")


async def test_two_packages_with_one_scheme_are_named(install: Install) -> None:
    install("one", "", group="bootstrap", name="same")
    install("two", "", group="bootstrap", name="same")

    with pytest.raises(ConfigurationError, match="the scheme same:// is provided by one and by"):
        async with open_bootstrap(Settings(kafka_servers=("same://",))):
            pass


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
async def test_a_scheme_whose_package_cannot_be_loaded_is_named(
    install: Install, code: str, reason: str
) -> None:
    install("wrong", code, group="bootstrap")

    told = f"the package wrong 1, which provides wrong://, cannot be loaded: {reason}"
    with pytest.raises(ConfigurationError, match=told):
        async with open_bootstrap(Settings(kafka_servers=("wrong://",))):
            pass


def test_what_a_service_prints_is_no_part_of_a_commands_result(install: Install) -> None:
    code = "import kafkaesk_core; app = kafkaesk_core.Application(); print('hello')"
    install("chatty", code, group="apps", value="chatty:app")

    shown = kafkaesk("inspect", "chatty", "--json")

    assert "hello" in shown.stderr
    assert json.loads(shown.stdout)["streams"] == []


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        *(("plugin", "plugins"), ("pluginz", "plugins"), ("PLUGINS", "plugins"), ("tial", "tail")),
        *(("help", "--help"), ("version", "--version")),
    ],
)
def test_a_word_that_is_nearly_a_command_is_answered_with_the_command(
    word: str, meant: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{meant}'"):
        find_application(word)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit(0)", "importing exits failed at exits.py:1: SystemExit: 0"),
        ("raise SystemExit('set X')", "importing exits failed at exits.py:1: SystemExit: set X"),
        (
            "def Plugin():\n    raise SystemExit",
            r"calling exits:Plugin\(\) failed at .*: SystemExit",
        ),
    ],
)
def test_a_service_that_exits_while_it_is_imported_is_no_success(
    install: Install, code: str, told: str
) -> None:
    install("exits", code)

    with pytest.raises(ConfigurationError, match=f"^{told}$"):
        find_application("exits:Plugin")


def test_a_service_that_exits_at_its_start_is_told_with_the_place(
    install: Install, tmp_path: Path
) -> None:
    install("exits", EXITS, group="apps")

    ended = subprocess.run(
        [sys.executable, "-m", "kafkaesk_core", "exits:app"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "KAFKAESK_KAFKA_SERVERS": "embedded://"},
        check=False,
    )

    assert ended.returncode == 9
    assert "the application ended the process at exits.py:9: SystemExit: 9" in ended.stderr


def test_a_terminal_that_lacks_characters_shows_their_codes(
    install: Install, tmp_path: Path
) -> None:
    install("wrong", "raise ValueError('\u4e2d')")

    shown = subprocess.run(
        [sys.executable, "-m", "kafkaesk_core", "plugins"],
        capture_output=True,
        env={"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(tmp_path)},
        check=False,
    ).stdout

    assert b"ValueError: \\u4e2d" in shown


def test_a_current_directory_that_was_deleted_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    result = kafkaesk("plugins", "no_shop:app")

    assert result.exit_code == 2
    assert result.stderr == (
        "kafkaesk: there is no module 'no_shop', neither in the current directory, which no longer "
        "exists, nor installed\n"
    )
