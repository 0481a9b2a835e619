from collections.abc import Callable
from pathlib import Path

import pytest

from kafkaesk_testing.kafka_install import class_archive, find_java

Tool = Callable[[str, str], Path]


def test_the_archive_is_made_once(kafka_jars: Path) -> None:
    java = find_java()

    archive = class_archive(java)

    assert archive is not None
    made = archive.stat()
    assert made.st_size > 1_000_000
    assert class_archive(java) == archive
    assert archive.stat().st_mtime_ns == made.st_mtime_ns
    assert not list(archive.parent.glob("archive-*"))


def test_brokers_go_on_without_an_archive_that_cannot_be_made(
    tool: Tool, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "libs").mkdir(parents=True)
    tool(
        "java",
        "sys.stderr.write('openjdk version \"17\"'); sys.exit(len(sys.argv) > 2)",
    )
    java = find_java()

    first, second = class_archive(java), class_archive(java)

    assert first is None
    assert second is None
    assert caplog.text.count("brokers start slower") == 1
