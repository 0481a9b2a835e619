"""Random pairs of models: nothing is called compatible that is not, and oracles agree."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_schemas.compatibility import accepts, find_problems
from kafkaesk_schemas.contract import describe_refusal
from kafkaesk_schemas.generation import describe_model
from kafkaesk_schemas.samples import samples
from tests.plugins.schemas.pairs import random_pairs

SEED = int(os.environ.get("PAIRS_SEED", "1"))
PAIRS = int(os.environ.get("PAIRS", "200"))
"""`PAIRS=2000 PAIRS_SEED=7 uv run --python 3.12 pytest -n 0 tests/plugins/schemas/test_pairs.py` is
the long run; the oracle jsoncompat needs Python 3.12."""


def test_nothing_is_called_compatible_of_which_a_message_is_refused() -> None:
    answers: Counter[str] = Counter()

    for old, new in random_pairs(PAIRS, SEED):
        written, read = describe_model(old, "written"), describe_model(new, "read")
        problems = find_problems(written, read)
        answers[answer_of(problems, new)] += 1
        for message in samples(written, written.get("$defs", {})):
            assert accepts(written, message), (written, message)
            if not problems:
                assert describe_refusal(new, message) is None, (written, read, message)

    assert answers["compatible"] > PAIRS / 4
    assert answers["incompatible"] > PAIRS / 4
    assert answers["unknown"] < PAIRS / 50


def answer_of(problems: list[Any], reader: type[BaseModel]) -> str:
    if not problems:
        return "compatible"
    messages = [one for each in problems if each.is_known for one in each.messages]
    is_refused = any(describe_refusal(reader, one) is not None for one in messages)
    return "incompatible" if is_refused else "unknown"


@pytest.mark.filterwarnings("ignore")  # the oracles' own
def test_what_both_oracles_refuse_is_refused() -> None:
    jsoncompat = pytest.importorskip("jsoncompat")
    jsonsubschema = pytest.importorskip("jsonsubschema")

    for old, new in random_pairs(PAIRS, SEED):
        written, read = describe_model(old, "written"), describe_model(new, "read")
        if not find_problems(written, read):
            texts = json.dumps(written), json.dumps(read)
            is_compatible = jsoncompat.check_compat(*texts, "deserializer")
            if not is_compatible:
                assert is_subschema(jsonsubschema, *texts), texts


def is_subschema(oracle: Any, written: str, read: str) -> bool:
    try:
        return bool(oracle.isSubschema(json.loads(written), json.loads(read)))
    except Exception:  # it does not know recursion, and more
        return True
