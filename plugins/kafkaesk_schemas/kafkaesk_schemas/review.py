"""The check of an application: each version against earlier ones and its frozen file."""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from typing import Any, Literal

from kafkaesk_core import Application, SchemaRegistration

from .compatibility import Problem, find_problems
from .contract import Contract, contract_of
from .generation import without_words
from .modes import OPTION, Mode, check_mode
from .upcasting import Chain

__all__ = ["Finding", "Review", "contracts_of", "judge"]

Answer = Literal["same", "compatible", "incompatible", "unknown", "changed", "unreadable"]
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Detail:
    """One problem: its place and reason, an example message, and the reader's error."""

    path: str
    reason: str
    message: Any = None  # any JSON
    error: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one version, or for a pair of a writer and a reader.

    `readers` are the reader's handlers, as "shop.bill of orders.placed". `file` and `line` are the
    place of the version's declaration.
    """

    schema: str
    answer: Answer
    writer: str
    reader: str
    mode: str = ""
    details: tuple[Detail, ...] = ()
    readers: tuple[str, ...] = ()
    remedy: str = ""
    note: str = ""
    file: str = ""
    line: int = 0

    @property
    def is_refusal(self) -> bool:
        """Whether the check fails."""
        return self.answer in ("incompatible", "changed", "unreadable")


def contracts_of(app: Application) -> dict[str, Contract]:
    """Return the contracts of the schemas that a service registers itself, by key."""
    return {key: contract_of(each) for key, each in sorted(app.schemas.items())}


@dataclass
class Review:
    """Compares the contracts of an application with the frozen contracts."""

    app: Application
    frozen: Mapping[str, Contract]
    default: Mode = "backward"
    chains: Callable[[str, int], Mapping[int, Chain]] = field(default=lambda *_: {})
    """The upcasters to a version of a schema, by their first version."""

    def __post_init__(self) -> None:
        self.current = contracts_of(self.app)
        self._handlers = self.app.describe()["handlers"]
        self._registrations = {each.key: each for each in self.app.schemas.values()}

    def findings(self) -> Iterator[Finding]:
        """Yield the result for each version, and for each pair that must be compatible."""
        for key, contract in self.current.items():
            if key in self.frozen:
                yield self._of_frozen(contract, self.frozen[key])
            yield from self._of_others(contract, self._registrations[key])

    def _of_frozen(self, contract: Contract, frozen: Contract) -> Finding:
        """Check that a frozen version is unchanged and still reads the messages that it read."""
        names = contract.key, contract.key
        place = partial(_place, self._registrations[contract.key])
        if not contract.is_same(frozen):
            changes = [
                *_changes("reads", frozen.read, contract.read),
                *_changes("writes", frozen.written, contract.written),
            ]
            remedy = (
                f"undo the change, or register it as {contract.id}:{self._next(contract.id)} and "
                f"keep {contract.key}"
            )
            return Finding(
                contract.key, "changed", *names, details=tuple(changes), remedy=remedy, **place()
            )
        unread = tuple(
            Detail("", "it was read when it was frozen", one, said)
            for one in frozen.messages
            if (said := contract.refusal(one)) is not None
        )
        if unread:
            remedy = "a validator became stricter: loosen it, or register the change as a new one"
            return Finding(
                contract.key, "unreadable", *names, details=unread, remedy=remedy, **place()
            )
        return Finding(contract.key, "same", *names)

    def _next(self, name: str) -> int:
        everything = (*self.current.values(), *self.frozen.values())
        return 1 + max(each.version for each in everything if each.id == name)

    def _of_others(self, contract: Contract, registration: SchemaRegistration) -> Iterator[Finding]:
        mode = check_mode(registration.options.get(OPTION, self.default), contract.key)
        if mode == "none":
            return
        known = {**self.current, **self.frozen}
        older = [
            self.current.get(key, each)
            for key, each in known.items()
            if each.id == contract.id and each.version < contract.version
        ]
        older.sort(key=lambda each: each.version, reverse=True)
        kind, _, is_transitive = mode.partition("_")
        for other in older if is_transitive else older[:1]:
            if kind in ("backward", "full"):
                yield self._of_pair(contract, other, contract, mode)
            if kind in ("forward", "full"):
                yield self._of_pair(contract, contract, other, mode)

    def _of_pair(self, subject: Contract, writer: Contract, reader: Contract, mode: str) -> Finding:
        frozen_writer = self.frozen.get(writer.key, writer)
        chain = self.chains(reader.id, reader.version).get(writer.version)
        names = subject.key, writer.key, reader.key
        readers = self._readers_of(reader.key)
        if chain is not None:
            details = tuple(_tried(writer, reader, chain))
            note = f"read through {' and '.join(chain.names)}"
            answer: Answer = "incompatible" if details else "compatible"
        else:
            note = ""
            answer, details = judge(frozen_writer, writer, reader)
        is_good = answer == "compatible"
        return Finding(
            names[0],
            answer,
            *names[1:],
            mode=mode,
            details=details[:_LISTED],
            readers=() if is_good else readers,
            remedy="" if is_good else _remedy(writer, reader, is_chained=chain is not None),
            note=note,
            **({} if is_good else _place(self._registrations[subject.key])),
        )

    def _readers_of(self, key: str) -> tuple[str, ...]:
        claimed = self.app.plugins.claimed_streams
        found = []
        for handler in self._handlers:
            # A plugin may let a handler take streams of its own, too.
            own = [s for s in handler["streams"] if not any(fnmatch(s, one) for one in claimed)]
            if own and key in handler["schemas"]:
                found.append(f"{handler['handler']} of {', '.join(own)}")
        return tuple(found)


def judge(
    writer: Contract, original: Contract, reader: Contract
) -> tuple[Answer, tuple[Detail, ...]]:
    """Compare the schemas; a refusal requires a message that the reader really refuses.

    `original` is the writer with its model, if the application still has it.
    """
    refused: list[Detail] = []
    unclear: list[Detail] = []
    problems = find_problems(writer.written, reader.read)
    own = {str(one) for one in find_problems(writer.written, writer.read)} if problems else set()
    for problem in problems:
        proof = None if str(problem) in own else _proof(problem, original, reader)
        (unclear if proof is None else refused).append(proof or _unclear(problem, own))
    if not refused:
        refused += _refused_messages(writer, reader)
    if refused:
        return "incompatible", tuple(refused)
    return ("unknown", tuple(unclear)) if unclear else ("compatible", ())


def _proof(problem: Problem, writer: Contract, reader: Contract) -> Detail | None:
    """Return a message that the writer's model accepts and the reader really refuses."""
    if not problem.is_known:
        return None
    for message in problem.messages:
        if (said := reader.refusal(message)) is not None and writer.refusal(message) is None:
            return Detail(problem.path, problem.reason, message, said)
    return None


def _unclear(problem: Problem, own: Iterable[str]) -> Detail:
    if str(problem) in own:
        why = "the writer itself does not read what its schema says that it writes"
    elif problem.is_known:
        why = "but the messages that were tried are read all the same: converted, most likely"
    else:
        why = "no message shows whether it matters"
    return Detail(problem.path, f"{problem.reason}; {why}")


def _refused_messages(writer: Contract, reader: Contract) -> Iterator[Detail]:
    """Return the writer's messages that the reader's validators refuse although the schemas fit."""
    for message in writer.messages:
        if (said := reader.refusal(message)) is not None:
            reason = "the schemas fit, but the reader refuses what was written"
            yield Detail("", reason, message, said)


def _tried(writer: Contract, reader: Contract, chain: Chain) -> Iterator[Detail]:
    """Return the writer's messages that the reader refuses after upcasting."""
    if not writer.messages:
        yield Detail("", f"no message of {writer.key} could be made to try its upcaster with")
    for message in writer.messages:
        try:
            said = reader.refusal(chain.convert(message))
        except Exception as error:  # the upcaster is the service's own
            said = f"the upcaster failed: {type(error).__name__}: {error}"
        if said is not None:
            yield Detail("", "it is not read, although it is upcast", message, said)


def _remedy(writer: Contract, reader: Contract, *, is_chained: bool) -> str:
    if is_chained:
        return f"correct the upcaster of {writer.key}, or what {reader.key} requires"
    if writer.version > reader.version:
        return (
            f"let readers of {reader.key} be deployed with a newer version first, and say "
            "options={'schemas': 'backward'}; or keep what they need"
        )
    return (
        f"give what is missing a default, upcast(app, {writer.id!r}, {writer.version}), "
        "or publish it as another schema to another stream"
    )


def _changes(verb: str, frozen: Any, current: Any) -> Iterator[Detail]:
    """Return the changes, seen from both sides."""
    if without_words(frozen) == without_words(current):
        return
    found = {
        problem.path: problem.reason
        for one, other in ((current, frozen), (frozen, current))
        for problem in find_problems(one, other)
    }
    for path in sorted(found) or [""]:
        yield Detail(path, f"it {verb} something else than was frozen")


def _place(registration: SchemaRegistration) -> dict[str, Any]:
    """Return where a model is defined, or the line that declares a document."""
    if registration.model is None:
        return {}
    try:
        file = inspect.getsourcefile(registration.model) or ""
    except TypeError:
        return {}
    start = re.compile(rf"\s*class {registration.model.__name__}\b")
    lines = enumerate(linecache.getlines(file), 1)
    return {"file": file, "line": next((n for n, text in lines if start.match(text)), 1)}
