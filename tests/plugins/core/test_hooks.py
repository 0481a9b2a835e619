"""The specifications themselves: their shapes, and that each says what it must."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from kafkaesk_core.hooks import Hooks
from kafkaesk_core.plugins.contract import SIGNATURES

# Any in this file: a specification may be any function.
SPECIFICATIONS: dict[str, Callable[..., Any]] = {name: getattr(Hooks, name) for name in SIGNATURES}


def test_the_surface_is_what_was_decided() -> None:
    assert list(SIGNATURES) == [
        "wrap_publish",
        "wrap_consume",
        "wrap_consume_batch",
        "wrap_commit",
        "wrap_schema",
        "schema_registered",
        "published",
        "partitions_assigned",
        "partitions_revoked",
        "lifespan",
        "declare",
        "check_subscription",
        "health",
        "report",
        "bind_parameter",
        "upcasters",
        "codec",
    ]


@pytest.mark.parametrize("hook", SIGNATURES)
def test_the_name_of_a_hook_shows_its_shape(hook: str) -> None:
    is_async = inspect.iscoroutinefunction(SPECIFICATIONS[hook])

    assert is_async == hook.startswith("wrap_")
    assert (SIGNATURES[hook][1] == "call_next") == is_async if len(SIGNATURES[hook]) > 1 else True


@pytest.mark.parametrize("hook", SIGNATURES)
def test_every_argument_and_result_of_a_hook_is_annotated(hook: str) -> None:
    signature = inspect.signature(SPECIFICATIONS[hook])

    annotations = [p.annotation for p in list(signature.parameters.values())[1:]]

    assert inspect.Signature.empty not in [*annotations, signature.return_annotation]


@pytest.mark.parametrize("hook", SIGNATURES)
def test_every_hook_says_when_it_runs_and_what_an_exception_in_it_does(hook: str) -> None:
    text = inspect.getdoc(SPECIFICATIONS[hook]) or ""

    assert "exception" in text.lower() or "errors are logged" in text.lower()
    assert any(word in text for word in ("outermost", "first answer", "Replayed", "replayed"))
