"""Implements `kafkaesk deploy`: writes files, or prints a single file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kafkaesk_core import ConfigurationError
from kafkaesk_core.command import find_described
from kafkaesk_ops.deploy.compose import compose_files, dockerfile, dump_yaml
from kafkaesk_ops.deploy.dashboard import dashboard_of
from kafkaesk_ops.deploy.kubernetes import documents
from kafkaesk_ops.deploy.service import Service

__all__ = ["write"]


def write(what: str, app: str, out: Path | None, **options: Any) -> None:
    """Generate the files for an application, and write them to a folder or print them.

    Raises:
        ConfigurationError: the application contradicts an option, or the path is not a folder.
    """
    build = {"context": options.pop("build", ".")}
    if dockerfile_path := options.pop("dockerfile", None):
        build["dockerfile"] = dockerfile_path
    service = Service.of(app, find_described(app), **options)
    files = _files(what, service, build)
    if out is None:
        if len(files) > 1:
            raise ConfigurationError(
                f"{what} are {len(files)} files; say where to write them with --out"
            )
        (text,) = files.values()
        click.echo(text, nl=False)
        return
    for name, text in files.items():
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
        click.echo(f"wrote {path}", err=True)


def _files(what: str, service: Service, build: Mapping[str, str]) -> dict[str, str]:
    if what == "k8s":
        return {f"{service.name}.yml": dump_yaml(*documents(service))}
    if what == "dockerfile":
        return {"Dockerfile": dockerfile(service)}
    if what == "grafana":
        return {"kafkaesk.json": json.dumps(dashboard_of(""), indent=2) + "\n"}
    return compose_files(service, build)
