"""Random pairs of models, an older and a newer one, from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from random import Random
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model

# Any in this file: annotations of many kinds.
NAMES = ("number", "article", "customer", "lines", "note")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


SIMPLE: tuple[Any, ...] = (
    *(int, str, float, bool, UUID, datetime, date, Decimal, Colour),
    type(None),  # and not None, which pydantic 2.10 takes for no annotation
)


def random_pairs(count: int, seed: int) -> Iterator[tuple[type[BaseModel], type[BaseModel]]]:
    """Yield an older and a newer model: one is a change of the other, or made anew."""
    for number in range(count):
        random = Random(seed * 1_000_003 + number)
        fields = random_fields(random, depth=0)
        others = (
            changed(random, fields) if random.random() < 0.8 else random_fields(random, depth=0)
        )
        yield model_of(random, "Old", fields), model_of(random, "New", others)


def random_fields(random: Random, depth: int) -> dict[str, Any]:
    names = random.sample(NAMES, random.randint(1, 3))
    return {name: random_field(random, depth) for name in names}


def random_field(random: Random, depth: int) -> tuple[Any, Any]:
    kind = random_type(random, depth)
    if random.random() < 0.3:
        return Optional[kind], None  # noqa: UP045 - of a type that is known at run time only
    return kind, ...


def random_type(random: Random, depth: int) -> Any:
    if depth > 2 or random.random() < 0.5:
        return random.choice(SIMPLE)
    inner = [random_type(random, depth + 1) for _ in range(2)]
    return random.choice(
        (
            lambda: list[inner[0]],  # type: ignore[valid-type]
            lambda: dict[str, inner[0]],  # type: ignore[valid-type]
            lambda: tuple[inner[0], inner[1]],  # type: ignore[valid-type]
            lambda: Union[inner[0], inner[1]],  # noqa: UP007
            lambda: Literal["a", "b", "c"],
            lambda: Literal["a"],
            lambda: Literal[1, "a", None],
            lambda: Annotated[int, Field(ge=random.randint(-2, 2), le=random.randint(3, 9))],
            lambda: Annotated[int, Field(multiple_of=random.randint(2, 4))],
            lambda: Annotated[float, Field(gt=random.choice((-1, 0, 0.5)))],
            lambda: Annotated[str, Field(min_length=random.randint(0, 2))],
            lambda: Annotated[str, Field(max_length=random.randint(2, 5))],
            lambda: Annotated[Decimal, Field(ge=random.randint(-1, 1))],
            lambda: Annotated[list[int], Field(max_length=random.randint(1, 3))],
            lambda: model_of(random, "Inner", random_fields(random, depth + 1)),
            lambda: tagged(random, depth),
        )
    )()


def tagged(random: Random, depth: int) -> Any:
    one, two = (
        _create(name, {"kind": (Literal[name], ...), **random_fields(random, depth + 1)})
        for name in ("A", "B")
    )
    return Annotated[one | two, Field(discriminator="kind")]


def changed(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    """Change some fields: drop, add, loosen, tighten, replace."""
    changed = dict(fields)
    for _ in range(random.randint(0, 2)):
        name = random.choice(list(changed) or list(NAMES))
        kind, default = changed.get(name, (int, ...))
        action = random.choice(("drop", "add", "optional", "required", "replace", "wider", "list"))
        if action == "drop":
            changed.pop(name, None)
        elif action == "add":
            changed.setdefault(random.choice(NAMES), random_field(random, 1))
        elif action == "optional":
            changed[name] = (Optional[kind], None)  # noqa: UP045
        elif action == "required":
            changed[name] = (kind, ...)
        elif action == "replace":
            changed[name] = random_field(random, 1)
        elif action == "wider":
            changed[name] = (Union[kind, random.choice(SIMPLE)], default)  # noqa: UP007
        else:
            changed[name] = (list[kind], default if default is ... else [])  # type: ignore[valid-type]
    return changed


def model_of(random: Random, name: str, fields: dict[str, Any]) -> type[BaseModel]:
    return _create(name, fields, random.choice(("ignore", "ignore", "ignore", "forbid", "allow")))


def _create(name: str, fields: dict[str, Any], extra: Any = "ignore") -> type[BaseModel]:
    made: type[BaseModel] = create_model(name, __config__=ConfigDict(extra=extra), **fields)
    return made
