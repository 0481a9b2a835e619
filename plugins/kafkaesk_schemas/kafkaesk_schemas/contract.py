"""A contract: the messages that one version of a schema writes and reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from pydantic import BaseModel, PydanticUserError, ValidationError

from kafkaesk_core import ConfigurationError, SchemaRegistration

from .compatibility import accepts, find_problems
from .generation import describe_model, normalize, without_words
from .samples import samples

__all__ = ["Contract", "contract_of", "describe_refusal", "read_contract"]

# Any below: JSON Schemas and values of JSON.
Node = dict[str, Any]

_MESSAGES = 6


@dataclass(frozen=True)
class Contract:
    """One version of a schema: from the application (with its `model`), or frozen in a file.

    `written` and `read` are JSON Schemas in normal form. The model accepted `messages` when the
    contract was made.
    """

    id: str
    version: int
    written: Node
    read: Node
    model: type[BaseModel] | None = None
    frozen_messages: tuple[Any, ...] | None = None

    @property
    def key(self) -> str:
        """The name on the wire: "Order:1"."""
        return f"{self.id}:{self.version}"

    @cached_property
    def messages(self) -> tuple[Any, ...]:
        """A few messages of this version, which its own reader accepts."""
        if self.frozen_messages is not None:
            return self.frozen_messages
        made = samples(self.written, self.written.get("$defs", {}))
        own = (one for one in made if accepts(self.written, one) and self.refusal(one) is None)
        return tuple(islice(own, _MESSAGES))

    def refusal(self, message: Any) -> str | None:
        """Return why the model, or else the schema, refuses a message; None if it does not."""
        if self.model is None:
            problems = find_problems({"enum": [message]}, self.read)
            known = [str(problem) for problem in problems if problem.is_known]
            return "; ".join(known) or None
        return describe_refusal(self.model, message)

    def is_same(self, other: Contract) -> bool:
        """Return whether two contracts are equivalent, whatever their descriptions."""
        return bool(
            without_words(self.written) == without_words(other.written)
            and without_words(self.read) == without_words(other.read)
        )

    def to_text(self) -> str:
        """Return the text of the contract's file."""
        parts = {
            "schema": self.key,
            "written": self.written,
            "read": self.read,
            "messages": list(self.messages),
        }
        return json.dumps(parts, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def contract_of(registration: SchemaRegistration) -> Contract:
    """Return the contract of a schema that an application registers."""
    names = registration.id, registration.version
    if registration.model is None:
        document = normalize(registration.document or {}, is_closed=False)
        return Contract(*names, document, document)
    model = registration.model
    try:
        written, read = describe_model(model, "written"), describe_model(model, "read")
    except PydanticUserError as error:
        raise ConfigurationError(
            f"schema {registration.key}: pydantic cannot describe {registration.declared_in}: "
            f"{error.message.splitlines()[0]}"
        ) from error
    return Contract(*names, written, read, model)


def read_contract(text: str, where: str) -> Contract:
    """Return the contract of a file.

    Raises:
        ConfigurationError: the text is not a contract.
    """
    try:
        parts = json.loads(text)
        name, _, version = parts["schema"].rpartition(":")
        messages = tuple(parts.get("messages", ()))
        written, read = parts["written"], parts["read"]
        if not (name and isinstance(written, Mapping) and isinstance(read, Mapping)):
            raise ValueError("written or read is not a JSON Schema")
        return Contract(name, int(version), dict(written), dict(read), None, messages)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{where} is not a frozen schema ({type(error).__name__}: {error}); restore it from "
            "version control, or delete it and freeze again"
        ) from error


def describe_refusal(model: type[BaseModel], message: Any) -> str | None:
    """Let a model read a message; return why the model refuses it, or None."""
    try:
        model.model_validate_json(json.dumps(message))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        texts = [f"{_path(each['loc'])}: {each['msg']}" for each in found[:3]]
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        return "; ".join(texts) + more
    except Exception as error:  # a validator of the model may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "data"
