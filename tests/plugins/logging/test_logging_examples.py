"""The examples of the plugin do what they say, started as they say."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests.programs import Program

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples" / "logging").glob("*.py"))
SHOWN = {
    "logger": ("logged in: user=ada", "read back: {", '"user":"ada"'),
    "with_dict_config": ("INFO order placed 7",),
    "with_structlog": ("WARNING order placed late 7 r-1",),
    "with_warnings": ("WARNING py.warnings", "FutureWarning: the old way to order ends in May"),
}


def command_of(example: Path) -> tuple[dict[str, str], list[str]]:
    """What its documentation says to type: variables of the environment, and words."""
    told = example.read_text().split("\n\n")[1].split('"""')[0].replace("\\\n", " ")
    words = shlex.split(told)
    environment = dict(word.split("=", 1) for word in words if re.match("[A-Z_]+=", word))
    command = words[len(environment) :]
    python = {"kafkaesk": [sys.executable, "-m", "kafkaesk_core"], "python": [sys.executable]}
    return environment, [*python[command[0]], *command[1:]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_shows_what_it_logged(example: Path, tmp_path: Path) -> None:
    environment, command = command_of(example)
    with Program(
        *command, folder=ROOT, output=tmp_path / "output", environment=environment
    ) as program:
        program.wait_for(*SHOWN[example.stem])
        is_service = "kafkaesk_core" in command  # a script ends by itself
        code = program.end(signal.SIGINT if is_service else None)

    assert code == 0, program.printed
    assert "\nDEBUG below the handler's level" not in program.printed
