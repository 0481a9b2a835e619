import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kafkaesk_testing import KafkaUnavailableError
from kafkaesk_testing.kafka_install import cache_directory, fetch_jars

Tool = Callable[[str, str], Path]

# Maven is called in the directory of the pom, and writes into libs.
WORKING_MAVEN = """
pom = open("pom.xml").read()
assert "kafka_2.13" in pom and "4.3.1" in pom
os.mkdir("libs")
open("libs/kafka.jar", "w").close()
open(os.environ["XDG_CACHE_HOME"] + ".calls", "a").write(" ".join(sys.argv[1:]) + "\\n")
"""


def test_processes_that_start_together_fetch_once(tool: Tool, cache: Path, tmp_path: Path) -> None:
    tool("mvn", WORKING_MAVEN)
    code = "from kafkaesk_testing.kafka_install import fetch_jars; print(fetch_jars())"

    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    printed = [process.communicate(timeout=30)[0].strip() for process in processes]

    assert printed == [str(cache / "libs")] * 3
    assert len((tmp_path / "cache.calls").read_text().splitlines()) == 1
    assert [file.name for file in (cache / "libs").iterdir()] == ["kafka.jar"]


def test_jars_that_are_there_need_no_maven(tool: Tool, cache: Path) -> None:
    tool("unrelated", "")
    (cache / "libs").mkdir(parents=True)

    assert fetch_jars() == cache / "libs"


def test_a_failed_fetch_says_what_maven_said_and_leaves_nothing(tool: Tool, cache: Path) -> None:
    tool("mvn", 'os.mkdir("libs"); print("[ERROR] cannot reach the repository"); sys.exit(1)')

    with pytest.raises(KafkaUnavailableError, match="cannot reach the repository"):
        fetch_jars()

    assert [file.name for file in cache.iterdir()] == ["libs.lock"]


def test_a_fetch_that_takes_too_long_is_given_up(tool: Tool, cache: Path) -> None:
    tool("mvn", "sys.stdin.close(); import signal; signal.pause()")

    with pytest.raises(KafkaUnavailableError, match=r"over 0\.2 seconds"):
        fetch_jars(timeout=0.2)


def test_missing_maven_is_named(tool: Tool, cache: Path) -> None:
    tool("unrelated", "")

    with pytest.raises(KafkaUnavailableError, match="mvn is not on PATH"):
        fetch_jars()


def test_the_cache_is_in_the_home_directory_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert cache_directory() == tmp_path / ".cache" / "kafkaesk-testing" / "kafka-4.3.1"
