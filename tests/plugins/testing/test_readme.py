import re
from pathlib import Path

import pytest

import kafkaesk_testing

pytest_plugins = ["pytester"]

README = Path(kafkaesk_testing.__file__).parents[1] / "README.md"


def test_the_examples_run(
    pytester: pytest.Pytester, kafka_jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(kafka_jars.parents[2]))
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    pytester.makepyfile(**{f"test_{number}": code for number, code in enumerate(examples)})

    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest")

    result.assert_outcomes(passed=len(examples))
    assert len(examples) == 6
