"""Implements `kafkaesk dead`: reads, asks for confirmation, acts, and reports."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kafkaesk_core import Application, ConfigurationError, KafkaeskError, TopicError
from kafkaesk_core.plugin import find_application
from kafkaesk_retry.places import Place, StreamNames
from kafkaesk_retry.policy import OPTION

from . import tables
from .session import Session
from .settle import Settler
from .stored import Selection, StoredLetter

__all__ = ["run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of all commands; each command sets those that it declares."""

    app: str
    as_json: bool = False
    dead_prefix: str = "dlq."
    group: str | None = None
    stream: str | None = None
    since: int | None = None
    fingerprint: str | None = None
    where: tuple[str, str] | None = None
    ids: tuple[str, ...] = ()
    with_settled: bool = False
    no_values: bool = False
    limit: int | None = None
    dry_run: bool = False
    yes: bool = False
    to_origin: bool = False
    local: bool = False
    rate: float | None = None
    max_replays: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def run(what: str, **given: Any) -> int:
    """Run one of the commands; return its exit code.

    Raises:
        KafkaeskError: the command failed; the error says why.
    """
    names = ("kafka_servers", "kafka_settings", "topic_prefix")
    settings = {name: given.pop(name) for name in names}
    options = Options(settings=settings, **given)
    commands = {"ls": _ls, "show": _show, "replay": _replay, "drop": _drop, "export": _export}
    return asyncio.run(_with_session(commands[what], options)) or 0


async def _with_session(command: Any, options: Options) -> int | None:  # Any: one of the commands
    application = find_application(options.app)
    application.override(**options.settings)
    settings = application.settings
    try:
        places = frozenset(map(Place.parse, options.ids))
    except ValueError as error:
        raise ConfigurationError(f"{error}, as `kafkaesk dead ls` shows it") from error
    selection = Selection(
        prefix=settings.topic_prefix,
        group=options.group,
        stream=options.stream,
        since_ms=options.since,
        fingerprint=options.fingerprint,
        where=options.where,
        places=places,
    )
    names = StreamNames(options.dead_prefix)
    if options.local:
        command = partial(_replay_here, application)
    async with Session.open(settings, names, selection) as session:
        code: int | None = await command(session, options)
    return code


def _tell(text: str) -> None:
    click.echo(f"kafkaesk: {text}", err=True)


# --- reading


async def _ls(session: Session, options: Options) -> None:
    kinds = tables.Kinds(session.settings.topic_prefix)
    async for letter in session.letters(with_settled=options.with_settled):
        kinds.add(letter)
    if options.as_json:
        click.echo(json.dumps(kinds.as_json(), indent=2))
    elif kinds.total:
        Console().print(kinds.table())
    else:
        click.echo("no dead letters")
    for topic, count in session.foreign.items():
        _tell(f"{count} records of {topic} have no headers of dead letters, and are left out")


async def _show(session: Session, options: Options) -> None:
    async for letter in session.letters(with_settled=True):
        is_settled = session.ledger.is_settled(letter.place)
        if options.as_json:
            described = tables.as_json(letter, with_values=not options.no_values)
            click.echo(json.dumps({**described, "settled": is_settled}, indent=2))
        else:
            tables.print_letter(letter, is_settled=is_settled, with_values=not options.no_values)
        return
    raise TopicError(
        f"there is no dead letter {options.ids[0]}; `kafkaesk dead ls` shows examples, and "
        "`export` lists all",
        topic=options.ids[0].rsplit("/", 2)[0],
    )


async def _export(session: Session, options: Options) -> None:
    async for letter in session.letters(with_settled=options.with_settled):
        click.echo(json.dumps(tables.as_json(letter, with_values=True)))


# --- acting


class Plan:
    """The letters to act upon: counts them first, and then takes the same letters."""

    def __init__(self, session: Session, options: Options) -> None:
        self._session = session
        self._options = options
        self.kinds = tables.Kinds(session.settings.topic_prefix)
        self.left: Counter[str] = Counter()
        self.groups: set[str] = set()
        self.origins: set[str] = set()

    async def count(self) -> int:
        """Count the letters by kind."""
        self.kinds = tables.Kinds(self._session.settings.topic_prefix)
        self.left.clear()
        async for letter in self.letters():
            self.kinds.add(letter)
            self.groups.add(letter.group)
            self.origins.add(letter.origin.topic)
        return self.kinds.total

    async def letters(self) -> AsyncIterator[StoredLetter]:
        """Yield the usable letters, up to the limit."""
        options, count = self._options, 0
        async for letter in self._session.letters():
            if options.limit is not None and count >= options.limit:
                return
            if problem := self._problem(letter):
                self.left[problem] += 1
                continue
            count += 1
            yield letter

    def _problem(self, letter: StoredLetter) -> str:
        most = self._options.max_replays
        if most is None:
            return ""
        if letter.replays >= most:
            return f"were replayed {most} times or more (--max-replays)"
        return "are cut, because their value was too large" if letter.is_truncated else ""

    def is_agreed(self, question: str) -> bool:
        """Show the plan, and ask for confirmation."""
        options = self._options
        if not options.as_json:
            Console(stderr=True).print(self.kinds.table())
        for problem, count in self.left.items():
            _tell(f"{count} {problem}, and are left")
        if options.dry_run:
            _tell("nothing is done (--dry-run)")
            return False
        return options.yes or click.confirm(question, err=True)


async def _replay(session: Session, options: Options) -> None:
    async with Settler.connect(session) as settler:
        recovered = 0
        if session.ledger.runs and not options.dry_run:
            recovered = await settler.recover()
            _tell(f"an earlier replay was interrupted; {recovered} of its letters had been sent")
        plan = Plan(session, options)
        total, done = await plan.count(), 0
        target = "the stream they came from" if options.to_origin else "their group"
        if total and plan.is_agreed(f"Send {total} dead letters to {target}?"):
            with _progress(total, "replayed") as advance:
                done = await settler.replay(
                    plan.letters(),
                    "origin" if options.to_origin else "group",
                    plan.groups,
                    plan.origins,
                    rate=options.rate,
                    advance=advance,
                )
    _tell_result(options, "replayed", total, done, plan, recovered=recovered)


async def _replay_here(application: Application, session: Session, options: Options) -> int:
    """Let the handlers handle the letters in this process; return 1 if any handler fails.

    Nothing is sent to Kafka, and no letter is settled.
    """
    plan, told = Plan(session, options), list[dict[str, str]]()
    if application.plugins.get(OPTION) is not None:
        application.plugins.unregister(OPTION)  # the failure itself is to be seen
    async for letter in plan.letters():
        problem = await _handled_here(application, letter)
        told.append({"id": str(letter.place), "problem": problem})
        if not options.as_json:
            click.echo(f"{letter.place}: {problem or 'handled'}")
    failed = sum(bool(one["problem"]) for one in told)
    if options.as_json:
        click.echo(json.dumps({"handled": len(told) - failed, "failed": failed, "letters": told}))
    else:
        click.echo(f"handled {len(told) - failed} of {len(told)} dead letters here, and sent none")
    return 1 if failed else 0


async def _handled_here(application: Application, letter: StoredLetter) -> str:
    """Handle one letter in this process; return the problem, or "" if it succeeds."""
    record, origin = letter.record, letter.origin
    try:
        result = await application.handle(
            origin.topic.removeprefix(application.settings.topic_prefix),
            record.value,
            record.key,
            letter.headers(),
            group=letter.group,
            partition=origin.partition,
            offset=origin.offset,
            timestamp_ms=max(record.timestamp, 0),
        )
    except KafkaeskError as error:
        return str(error)
    if result.is_terminal:
        return ""
    return f"{result.kind}: {type(result.error).__name__}: {result.error}"


async def _drop(session: Session, options: Options) -> None:
    plan = Plan(session, options)
    total, done = await plan.count(), 0
    if total and plan.is_agreed(f"Settle {total} dead letters without a replay?"):
        async with Settler.connect(session) as settler:
            with _progress(total, "dropped") as advance:
                done = await settler.drop(plan.letters(), advance=advance)
    _tell_result(options, "dropped", total, done, plan)


def _tell_result(
    options: Options, how: str, total: int, done: int, plan: Plan, **more: int
) -> None:
    if options.as_json:
        left = sum(plan.left.values())
        said = {"selected": total, how: done, "left": left, "kinds": plan.kinds.as_json()}
        click.echo(json.dumps({**said, **more}, indent=2))
    else:
        click.echo(
            f"{how} {done} of {total} dead letters" if total else "no dead letters to act on"
        )


class _progress:
    """Show a progress bar on a terminal's standard error; yield the function that advances it."""

    def __init__(self, total: int, text: str) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn(text),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(text, total=total)

    def __enter__(self) -> Any:
        self._bar.__enter__()
        return lambda count: self._bar.advance(self._task, count)

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)
