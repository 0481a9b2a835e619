from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[[str, str], Path]

pytest_plugins = ["pytester"]

TESTS = """
import os

def test_one(kafka):
    print("broker", kafka.host_port)

def test_two(kafka):
    assert kafka.servers == [kafka.host_port]

def test_three(kafka_cluster):
    assert len(kafka_cluster.servers) == 3

def test_plain():
    pass
"""


@pytest.fixture
def jars_for_project(kafka_jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project has a home of its own, but fetches nothing; what it leaves is in tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(kafka_jars.parents[2]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of somebody else, with strict settings and no broker named."""
    monkeypatch.delenv("KAFKA", raising=False)
    monkeypatch.delenv("CI", raising=False)
    pytester.makeini("""
        [pytest]
        addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest
        filterwarnings = error
        asyncio_default_fixture_loop_scope = function
    """)
    return pytester


def test_without_kafka_tests_are_skipped_and_one_line_says_what_to_do(
    project: pytest.Pytester, tool: Tool
) -> None:
    project.makepyfile(TESTS)

    result = project.runpytest_subprocess()

    result.assert_outcomes(passed=1, skipped=3)
    lines = [line for line in result.outlines if "no Kafka" in line]
    assert lines == [
        "3 tests skipped, no Kafka: KAFKA is not set, java is not on PATH, docker is not on PATH; "
        "install Java 17 and Maven, or Docker, or set KAFKA=host:port"
    ]


def test_without_kafka_tests_fail_in_continuous_integration(
    project: pytest.Pytester, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    project.makepyfile(TESTS)

    result = project.runpytest_subprocess()

    result.assert_outcomes(passed=1, errors=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["needs real Kafka: *java is not on PATH*install Java 17*"])


def test_a_named_broker_that_does_not_answer_fails_the_tests(
    project: pytest.Pytester, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA", "nowhere")
    project.makepyfile(TESTS)

    result = project.runpytest_subprocess("-k", "one or plain")

    result.assert_outcomes(passed=1, errors=1, deselected=2)
    result.stdout.fnmatch_lines(["KAFKA=nowhere is not host:port"])


def test_tests_with_a_real_broker_are_marked(project: pytest.Pytester, tool: Tool) -> None:
    project.makepyfile(TESTS)

    result = project.runpytest_subprocess("-m", "not kafka")

    result.assert_outcomes(passed=1, deselected=3)


def test_an_interrupted_run_leaves_no_broker(
    project: pytest.Pytester, jars_for_project: None, exists: Callable[[int], bool]
) -> None:
    project.makepyfile("""
        def test_interrupted(kafka):
            print("\\nbroker", kafka.nodes[0].pid, kafka.directory)
            raise KeyboardInterrupt
    """)

    result = project.runpytest_subprocess("-s")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    pid, directory = next(line for line in result.outlines if line.startswith("broker ")).split()[
        -2:
    ]
    assert not exists(int(pid))
    assert not Path(directory).exists()


def test_a_failed_test_tells_where_the_brokers_log_is(
    project: pytest.Pytester, jars_for_project: None
) -> None:
    project.makepyfile("""
        def test_failing(kafka):
            assert not kafka.servers
    """)

    result = project.runpytest_subprocess()

    result.assert_outcomes(failed=1)
    place = result.outlines[result.outlines.index(next(filter(is_heading, result.outlines))) + 1]
    assert (Path(place) / "n1" / "kafka.log").exists()
    assert not (Path(place) / "n1" / "data").exists()


def test_starting_pytest_imports_no_kafka_client(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import sys

        def test_light():
            heavy = {"aiokafka", "confluent_kafka", "kafkaesk_core", "pydantic"}
            assert not heavy & sys.modules.keys()
    """)

    result = project.runpytest_subprocess()

    result.assert_outcomes(passed=1)


def is_heading(line: str) -> bool:
    return "Kafka's logs" in line
