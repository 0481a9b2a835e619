"""The application that the command line names: every spelling of its name, and its own errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkaesk_core import ConfigurationError
from kafkaesk_core.app_finder import find_application

SHOP = """
import kafkaesk_core

app = kafkaesk_core.Application(entry_points=False)
number = 5

def make():
    return app

async def make_later():
    return app

def broken():
    raise ValueError("no catalogue")

def of_catalogue(catalogue):
    return app
"""
UNREADY = """
import kafkaesk_core

app = kafkaesk_core.Application(entry_points=False)

@app.on("initialize")
async def open_database():
    raise RuntimeError("no database")
"""
TRIED = """
import kafkaesk_core
from kafkaesk_retry import retries

app = kafkaesk_core.Application()

@retries(delay=0.1)
async def bill(order: dict) -> None: ...
"""
OPTION = """
import kafkaesk_core

app = kafkaesk_core.Application()

@app.subscribe("orders", concurrency=0)
async def bill(order): ...
"""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a service, as the present one of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("shop", None)


def kafkaesk(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run the command, and return its code and the lines that it printed."""
    (folder / "shop.py").write_text(SHOP)
    result = subprocess.run(
        [sys.executable, "-m", "kafkaesk_core", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return result.returncode, (result.stdout + result.stderr).splitlines()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("./shop:app", "'./shop:app' is not module:attribute, .*; write shop:app"),
        ("shop.py:app", "write shop:app"),
        ("deep/shop.py:app", "write deep.shop:app"),
        ("/srv/shop.py:app", "write shop:app"),
        ("../srv/shop:app", "write shop:app"),
        (".shop:app", "write shop:app"),
        ("shop.py", "'shop.py' is not an application; write module:attribute, as in shop:app"),
        ("shop", "as in shop:app"),
        ("shpo", "no command and no application is called 'shpo'"),
        ("", "no command and no application is called ''"),
        (":app", "write shop:app"),
        ("shop:", "write shop:app"),
        (":", "write shop:app"),
        ("shopp:app", "there is no module 'shopp', neither in .* nor installed"),
        ("shop.inner:app", "there is no module 'shop.inner'"),
        ("shop:ap", r"module 'shop' \(.*shop.py\) has no attribute 'ap'; did you mean 'app'\?"),
        ("shop:app.x", "no attribute 'app.x'; did you mean 'app'"),
        ("shop:make()", r"write shop:make, functions are called"),
        ("shop:number", "'shop:number' is of type int, not an Application"),
        ("shop:make_later", "is an 'async def' function; make it a plain 'def'"),
        ("json:app", r"module 'json' \(.*json.__init__.py\) has no attribute 'app'"),
        ("shop:make", "no Kafka servers are configured; .*; embedded:// is a broker inside the"),
    ],
)
def test_a_name_that_is_no_application_is_told_in_one_line(
    in_folder: Path, name: str, told: str
) -> None:
    (in_folder / "shop.py").write_text(SHOP)

    with pytest.raises(ConfigurationError, match=told) as raised:
        find_application(name).settings.check()

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["shop:app", "shop:make", "shop:nested.app"])
def test_an_application_is_found(in_folder: Path, name: str) -> None:
    (in_folder / "shop.py").write_text(f"{SHOP}\nclass nested:\n    app = app\n")

    assert find_application(name).subscriptions == ()


def test_the_command_tells_it_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    code, lines = kafkaesk(tmp_path, "./shop:app")

    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].endswith("write shop:app")


def test_an_option_that_is_refused_while_the_module_is_imported_is_one_line(
    tmp_path: Path,
) -> None:
    (tmp_path / "option.py").write_text(OPTION)

    code, lines = kafkaesk(tmp_path, "option:app")

    assert (code, len(lines)) == (2, 1), lines
    assert "importing option failed at option.py:6: handler option.bill: has concur" in lines[0]


@pytest.mark.parametrize(
    ("source", "told", "last"),
    [
        ("import not_here", "at broken.py:1: ModuleNotFoundError: No module", "not_here'"),
        ("x = 1\nx.y", "at broken.py:2: AttributeError", "no attribute 'y'"),
        ("def f(:", "at broken.py:1: SyntaxError", "invalid syntax"),
        ("from shop import broken\nbroken()", "at shop.py:14: ValueError: no cat", "catalogue"),
    ],
)
def test_an_error_of_the_service_keeps_its_own_traceback_and_no_other(
    tmp_path: Path, source: str, told: str, last: str
) -> None:
    (tmp_path / "broken.py").write_text(source)

    code, lines = kafkaesk(tmp_path, "broken:app")

    assert code == 2
    assert told in lines[0]
    assert last in lines[-1]
    assert any('broken.py", line' in line for line in lines)
    assert not any("importlib" in line or "kafkaesk_core/" in line for line in lines)


def test_a_plugins_decorator_that_refuses_is_placed_where_the_service_uses_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "tried.py").write_text(TRIED)

    code, lines = kafkaesk(tmp_path, "tried:app")

    assert (code, len(lines)) == (2, 1), lines
    assert "importing tried failed at tried.py:7: @retries has no 'delay'" in lines[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop:broken", "calling shop:broken() failed at shop.py:14: ValueError: no catalogue"),
        ("shop:of_catalogue", "calling shop:of_catalogue() failed: TypeError: of_catalogue() miss"),
    ],
)
def test_a_function_that_cannot_make_the_application_is_named(
    tmp_path: Path, name: str, told: str
) -> None:
    code, lines = kafkaesk(tmp_path, name)

    assert code == 2
    assert told in lines[0]


def test_an_error_of_an_initialize_handler_is_told_with_its_own_traceback(tmp_path: Path) -> None:
    (tmp_path / "unready.py").write_text(UNREADY)

    code, lines = kafkaesk(tmp_path, "unready:app", "--kafka-servers", "embedded://")

    told = next(index for index, line in enumerate(lines) if "the application failed" in line)
    assert code == 1
    assert lines[told].endswith("the application failed: RuntimeError: no database")
    assert 'unready.py", line 8, in open_database' in lines[told + 2]
    assert lines[-1] == "RuntimeError: no database"


@pytest.mark.parametrize("arguments", [("plugins", "shop:ap"), ("logs", "x", "--app", "shop:ap")])
def test_other_commands_tell_the_same(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, lines = kafkaesk(tmp_path, *arguments)

    assert (code, len(lines)) == (2, 1), lines
    assert "has no attribute 'ap'; did you mean 'app'?" in lines[0]
