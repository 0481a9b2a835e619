"""The work of the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError

from kafkaesk_core import Application, ConfigurationError
from kafkaesk_core.plugin import find_application

from .asyncapi import asyncapi_document
from .compatibility import find_problems
from .contract import Contract
from .describing import export_document, outline
from .frozen import file_name, read_frozen, write_frozen
from .page import render_page
from .plugin import SchemasPlugin
from .registry import Registry, RegistryRefusedError
from .report import render
from .review import Review, contracts_of
from .settings import SchemasSettings
from .upcasting import chains_to, upcasters_of

__all__ = ["run"]

# Any below: options, as click passes them.


def run(what: str, *, app: str, **options: Any) -> int:
    """Run a command; return its exit code.

    Raises:
        KafkaeskError: the application cannot be imported, or an argument is wrong.
    """
    commands: Mapping[str, Callable[..., int]] = {
        "freeze": _freeze,
        "check": _check,
        "show": _show,
        "diff": _diff,
        "register": _register,
        "export": _export,
        "asyncapi": partial(_asyncapi, app),
    }
    return commands[what](find_application(app), **options)


def _settings(app: Application) -> SchemasSettings:
    """Return the plugin's settings in the application."""
    app.describe()  # loads the installed plugins
    plugin = app.plugins.get(SchemasPlugin.name)
    return plugin.settings if isinstance(plugin, SchemasPlugin) else SchemasSettings()


def _review(app: Application, frozen: Mapping[str, Contract]) -> Review:
    upcasters = upcasters_of(app)
    return Review(
        app,
        frozen,
        _settings(app).compatibility,
        lambda schema, version: chains_to(upcasters, schema, version),
    )


def _check(
    app: Application, *, folder: str, against: str | None, style: str, allow_unknown: bool
) -> int:
    if against is not None and not against.startswith("git:") and not Path(against).is_dir():
        raise ConfigurationError(
            f"--against {against}: there is no such folder; name one, or a revision as git:main"
        )
    findings = list(_review(app, read_frozen(against or folder, folder)).findings())
    for line in render(findings, style, allows_unknown=allow_unknown):
        click.echo(line)
    is_unknown = any(each.answer == "unknown" for each in findings) and not allow_unknown
    return 2 if is_unknown or any(each.is_refusal for each in findings) else 0


def _freeze(app: Application, *, folder: str, update_words: bool) -> int:
    current, frozen = contracts_of(app), read_frozen(folder)
    changed = [key for key in current if key in frozen and not current[key].is_same(frozen[key])]
    if changed:
        findings = [f for f in _review(app, frozen).findings() if f.answer == "changed"]
        for line in render(findings, "text", allows_unknown=True):
            click.echo(line)
        return 2
    new = {key: each for key, each in current.items() if key not in frozen or update_words}
    write_frozen(new, Path(folder))
    for contract in new.values():
        click.echo(f"wrote {Path(folder, file_name(contract))}")
    if not new:
        click.echo(f"{len(current)} schemas are frozen already")
    return 0


def _show(app: Application, *, keys: tuple[str, ...], as_json: bool) -> int:
    current = contracts_of(app)
    for key in keys or current:
        contract = _known(current, key)
        for line in [contract.to_text().rstrip()] if as_json else outline(contract):
            click.echo(line)
    return 0


def _diff(app: Application, *, old: str, new: str, folder: str) -> int:
    known = {**read_frozen(folder), **contracts_of(app)}
    one, other = _known(known, old), _known(known, new)
    for line in _differences(one, other):
        click.echo(line)
    return 0


def _differences(old: Contract, new: Contract) -> Iterator[str]:
    before, after = dict(_lines(old)), dict(_lines(new))
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield from (f"- {path}: {before[path]}" for _ in before.keys() & {path})
            yield from (f"+ {path}: {after[path]}" for _ in after.keys() & {path})
    for writer, reader in ((old, new), (new, old)):
        problems = find_problems(writer.written, reader.read)
        is_known = any(problem.is_known for problem in problems)
        verb = "reads" if not problems else "cannot read" if is_known else "may not read"
        yield f"{reader.key} {verb} what {writer.key} writes"
        yield from (f"  {problem}" for problem in problems)


def _lines(contract: Contract) -> Iterator[tuple[str, str]]:
    for line in outline(contract)[1:]:
        path, _, rest = line.strip().partition(": ")
        yield path, rest


def _export(app: Application, *, out: str) -> int:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for contract in contracts_of(app).values():
        path = folder / file_name(contract).replace(".json", ".schema.json")
        document = export_document(contract)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
    return 0


def _register(app: Application, *, registry_url: str | None, dry_run: bool) -> int:
    registry = _registry(_settings(app), registry_url)
    answers: list[bool] = []
    for contract in contracts_of(app).values():
        place = f"{contract.key} as {registry.subject_of(contract)}"
        try:
            problems = registry.problems(contract) if dry_run else []
            said = "would be registered" if dry_run else f"id {registry.register(contract)}"
        except RegistryRefusedError as error:
            problems, said = [str(error)], ""
        answers.append(not problems)
        click.echo(f"no  {place}" if problems else f"ok  {place}: {said}")
        for problem in problems:
            click.echo(f"      {problem}")
    return 0 if all(answers) else 1


def _registry(settings: SchemasSettings, url: str | None) -> Registry:
    given = {"registry_url": url} if url else {}
    try:
        registry = SchemasSettings.model_validate({**settings.model_dump(), **given}).registry()
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"--registry-url: {said}") from error
    if registry is None:
        raise ConfigurationError(
            "no registry is known; give --registry-url, or KAFKAESK_SCHEMAS_REGISTRY_URL"
        )
    return registry


def _asyncapi(name: str, app: Application, *, style: str, version: str, title: str | None) -> int:
    document = asyncapi_document(app, title or name, asyncapi=version)
    if style == "html":
        click.echo(render_page(document), nl=False)
    elif style == "json":
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    return 0


def _known(contracts: Mapping[str, Contract], key: str) -> Contract:
    if key not in contracts:
        known = ", ".join(contracts) or "none"
        raise ConfigurationError(f"no schema {key!r} is registered or frozen (known: {known})")
    return contracts[key]
