"""Generates the reference pages of the site from the code: API, hooks, settings, the command."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import kafkaesk_core
from kafkaesk_core import hooks, plugin
from kafkaesk_core.official import package_of_command
from kafkaesk_core.plugins.installed import PluginChoice
from kafkaesk_core.settings import Settings, describe_default

__all__ = ["FOREIGN", "PAGES", "shown_code"]

# Any below: public objects of every kind.

GROUPS = {
    "Application": ("Application", "Router", "Subscription", "Subscriber", "run", "run_app"),
    "Messages": (
        *("Delivery", "IncomingMessage", "OutgoingMessage", "ConsumerRecord", "RecordMetadata"),
        *("HandlerResult", "TopicPartition", "Header", "Headers", "Data", "RebalanceEvent"),
    ),
    "What a handler may raise": ("Disposition", "Retry", "Defer", "Skip", "Stop", "BatchFailure"),
    "Schemas": ("SchemaRegistration",),
    "State": (
        "Status",
        "GroupStatus",
        "SubscriptionStatus",
        "LastError",
        "PartitionStatus",
        "Health",
        "Bootstrap",
    ),
    "Settings": ("Settings",),
    "Plugins": (
        *("hookimpl", "HOOK_API", "App", "Plugins", "PluginInfo"),
        *("PublishCall", "ConsumeCall", "ConsumeBatchCall", "CommitCall", "SchemaCall"),
    ),
}
"""The sections of public names on the page; errors come last, unlisted names before them."""
CONSTRUCTED = ("Application", "Router", "Retry", "Defer", "Skip", "Stop", "BatchFailure")
"""The classes that users instantiate."""
FOREIGN = {
    "ConsumerRecord": "aiokafka's record: `topic`, `partition`, `offset`, `timestamp`, `key`, "
    "`value`, `headers`.",
    "RecordMetadata": "Where a message was written: `topic`, `partition`, `offset`, `timestamp` "
    "(milliseconds since 1970).",
    "TopicPartition": "A named tuple of `topic` and `partition`.",
    "Header": "A header: its name, and its value or None.",
    "Headers": "The headers of a message, in their order; a name may occur several times.",
    "Data": "What may be published: a model, JSON-able data of a schema, or raw bytes.",
    "hookimpl": "The decorator for a plugin's implementation of a hook; it takes pluggy's "
    "`tryfirst` and `trylast`.",
    "HOOK_API": "The version of the hooks. Plugins written for an older core of the same version "
    "keep working.",
    "PublishCall": "What `call_next` of `wrap_publish` is.",
    "ConsumeCall": "What `call_next` of `wrap_consume` is.",
    "ConsumeBatchCall": "What `call_next` of `wrap_consume_batch` is.",
    "CommitCall": "What `call_next` of `wrap_commit` is.",
    "SchemaCall": "What `call_next` of `wrap_schema` is.",
}
EXAMPLES = Path(__file__).parents[2] / "examples"
DOCS = Path(__file__).parents[2] / "docs"
SHOWN_FIRST = ("guides/*.md", "tutorial.md", "plugins/*.md", "from/*.md")
MOST_LINKS = 3
NOTE = "<!-- written by `uv run docs` from the code; change the docstrings -->\n"
WIDTH = 88
"""Characters of a line in a block."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """Code on a page, with the link to the heading above it."""

    code: str
    link: str


@functools.cache
def shown_code() -> tuple[Shown, ...]:
    """Return all Python code of the pages, by heading, and of the examples."""
    pages = [path for pattern in SHOWN_FIRST for path in sorted(DOCS.glob(pattern))]
    found = [shown for path in pages for shown in _code_of(path)]
    for path in sorted(EXAMPLES.glob("*.py")):
        link = f"[`{path.name}`](examples.md#{_slug(path.name)})"
        found.append(Shown(path.read_text(), link))
    return tuple(found)


def _code_of(path: Path) -> Iterator[Shown]:
    text = path.read_text()
    title = text.partition("# ")[2].partition("\n")[0]
    place, heading = f"../{path.relative_to(DOCS).as_posix()}", ""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```|^#+ ([^\n]+)", text, re.M | re.S):
        language, code, heading_here = found.groups()
        if heading_here:
            heading = "" if heading_here == title else heading_here
        elif language == "python" and "aiokafka import AIOKafkaConsumer" not in code:
            anchor = f"#{_slug(heading)}" if heading else ""
            yield Shown(code, f"[{title}{': ' if heading else ''}{heading}]({place}{anchor})")


def _slug(heading: str) -> str:
    """Return the anchor of a heading, as the site makes it; the build finds wrong anchors."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


def api_page() -> str:
    """Return the page of all public names, with signatures and docstrings."""
    names = set(kafkaesk_core.__all__)
    errors = sorted(n for n in names if _is_error(getattr(kafkaesk_core, n)))
    grouped = {n for group in GROUPS.values() for n in group}
    groups = {**GROUPS, "Others": tuple(sorted(names - grouped - {*errors})), "Errors": errors}
    parts = [
        f"{NOTE}# API reference\n\nEvery name of `kafkaesk_core`. Times are in seconds unless a "
        "name ends in `_ms`.\n"
    ]
    for heading, members in groups.items():
        if members:
            parts.append(f"## {heading}\n")
            parts += (_entry(name, getattr(kafkaesk_core, name)) for name in members)
    parts.append(f"## For plugin authors: `kafkaesk_core.plugin`\n\n{_text(plugin)}\n")
    mine = [n for n in plugin.__all__ if n not in names]
    parts += (_entry(name, getattr(plugin, name)) for name in mine)
    return "\n".join(parts)


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, kafkaesk_core.KafkaeskError)


def _entry(name: str, value: Any) -> str:
    lines = [f"### `{name}`\n"]
    if name in FOREIGN:
        return "\n".join([*lines, f"{FOREIGN[name]}\n", *_shown(name)])
    if inspect.isfunction(value):
        lines.append(_code(_signature(name, value)))
    elif _is_error(value):
        base = value.__mro__[1].__name__
        lines.append(f"*An error; derives from `{base}`.*\n")
    lines.append(_text(value))
    lines += _shown(name)
    if isinstance(value, type):
        lines += _construction(name, value)
        lines += _members(name, value)
    return "\n".join(lines) + "\n"


def _shown(name: str) -> Iterator[str]:
    """Return links to code on the pages that uses a name; the tests run that code."""
    links = []
    for shown in shown_code():
        if re.search(rf"\b{name}\b", shown.code) and shown.link not in links:
            links.append(shown.link)
    if links:
        yield f"\nShown in: {', '.join(links[:MOST_LINKS])}.\n"


def _construction(name: str, cls: type) -> Iterator[str]:
    """Return the fields of a dataclass, or the signature of a constructor."""
    if dataclasses.is_dataclass(cls):
        fields = (f"{field.name}: {field.type}" for field in dataclasses.fields(cls))
        yield f"\n{_code(chr(10).join(fields))}"
    elif "__init__" in vars(cls) and name in CONSTRUCTED:
        text = _signature(name, vars(cls)["__init__"]).removeprefix("def ")
        yield f"\n{_code(text.removesuffix(' -> None'))}"


def _members(owner: str, cls: type) -> Iterator[str]:
    """Return the public methods and properties defined by the class or our base classes."""
    if issubclass(cls, kafkaesk_core.Settings):
        yield "\nEach setting: [settings](settings.md).\n"
        return
    for name, member in sorted(inspect.getmembers_static(cls)):
        home = next((base for base in cls.__mro__ if name in vars(base)), object)
        if name.startswith("_") or not home.__module__.startswith("kafkaesk_core"):
            continue
        kind = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if isinstance(kind, property):
            yield f"\n#### `{owner}.{name}` {_label(name)}\n\n*A property.* {_text(kind)}"
        elif inspect.isfunction(kind):
            heading = f"#### `{owner}.{name}()` {_label(f'{name}()')}"
            yield f"\n{heading}\n\n{_code(_signature(name, kind))}\n{_text(kind)}"


def _label(name: str) -> str:
    """Return a short label for the table of contents, without the class."""
    return f"{{ data-toc-label='{name}' }}"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return the signature as code, with one parameter per line if it is long."""
    signature = inspect.signature(function)
    start = f"{'async ' if inspect.iscoroutinefunction(function) else ''}def {name}"
    returned = signature.return_annotation
    end = "" if returned is signature.empty else f" -> {_annotation(returned)}"
    parameters = list(_parameters(signature))
    text = f"{start}({', '.join(parameters)}){end}"
    if len(text) <= WIDTH:
        return text
    return "\n".join([f"{start}(", *(f"    {each}," for each in parameters), f"){end}"])


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    stars: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    has_star = False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not has_star:
            yield "*"
        has_star |= parameter.kind in (parameter.VAR_POSITIONAL, parameter.KEYWORD_ONLY)
        text = f"{stars.get(parameter.kind, '')}{parameter.name}"
        if parameter.annotation is not parameter.empty:
            text += f": {_annotation(parameter.annotation)}"
        yield text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _code(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _text(value: Any) -> str:
    """Return a docstring as Markdown, with its "Raises:" as a list."""
    doc = inspect.getdoc(value) or ""
    body, _, raises = doc.partition("\nRaises:\n")
    if not raises:
        return f"{body.strip()}\n"
    listed, _, rest = raises.partition("\n\n")
    items = re.split(r"\n(?=\S)", textwrap.dedent(listed).strip())
    rows = []
    for item in items:
        error, _, why = " ".join(item.split()).partition(": ")
        rows.append(f"- `{error}`: {why}")
    return (
        f"{body.strip()}\n\nRaises:\n\n" + "\n".join(rows) + f"\n\n{rest.strip()}\n".rstrip() + "\n"
    )


def hooks_page() -> str:
    """Return the page of all hooks, with signatures and docstrings."""
    intro = inspect.getdoc(hooks) or ""
    title, _, rest = intro.partition("\n\n")
    parts = [f"{NOTE}# Hooks\n\n{title}\n\n```text\n{rest.strip()}\n```\n"]
    for name, member in vars(hooks.Hooks).items():
        if isinstance(member, types.FunctionType) and not name.startswith("_"):
            parts.append(f"## `{name}`\n\n{_code(_signature(name, member))}\n{_text(member)}")
    return "\n".join(parts)


def settings_page() -> str:
    """Return the page of all settings, by heading, with options and environment variables."""
    headings: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        extra: Any = field.json_schema_extra
        option = "--" + name.replace("_", "-")
        row = f"| `{name}` | {field.description} | {describe_default(name)} | `{option}` |"
        headings.setdefault(extra["heading"], []).append(row)
    parts = [
        f"{NOTE}# Settings\n\nA setting is an argument of `Application` and of `configure`, an "
        "option of `kafkaesk`, and an environment variable: `KAFKAESK_` and its name in capitals. "
        "The command line wins over the environment, the environment over `configure`, and "
        "`configure` over the constructor.\n"
    ]
    for heading, rows in headings.items():
        head = "| setting | meaning | default | option |\n|---|---|---|---|"
        parts.append(f"## {heading}\n\n{head}\n" + "\n".join(rows) + "\n")
    rows = [
        f"| `KAFKAESK_{name.upper()}` | {field.description} |"
        for name, field in PluginChoice.model_fields.items()
    ]
    head = "| variable | meaning |\n|---|---|"
    text = "These have no option and no argument of `configure`."
    parts.append(f"## Plugins\n\n{text}\n\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def setting_options() -> str:
    """Return the settings as data, from which the command declares its options."""
    rows = []
    for name, field in Settings.model_fields.items():
        extra: Any = field.json_schema_extra
        flag = "--" + name.replace("_", "-")
        is_switch = isinstance(field.default, bool)
        row = {
            "flags": f"{flag}/--no-{flag[2:]}" if is_switch else flag,
            "heading": extra["heading"],
            "help": field.description,
            "default": describe_default(name),
            "type": _number_type(field.annotation),
        }
        rows.append(row)
    return json.dumps(rows, indent=1) + "\n"


def _number_type(annotation: Any) -> str | None:
    """Return the first of int and float in an annotation."""
    if annotation is int or annotation is float:
        return str(annotation.__name__)
    inner = (_number_type(each) for each in get_args(annotation))
    return next((found for found in inner if found is not None), None)


def command_page() -> str:
    """Return the page of all commands' help, from a separate process, because click keeps state."""
    done = subprocess.run(
        [sys.executable, "-m", "kafkaesk_tools.command_help"],
        capture_output=True,
        text=True,
        check=True,
    )
    (_, own), *commands = json.loads(done.stdout)
    parts = [f"{NOTE}# The command\n\n```text\n{own}\n```\n"]
    for path, text in commands:
        name = path.removeprefix("kafkaesk ")
        package = package_of_command(name.split()[0])
        level = "##" if " " not in name else "###"
        whose = f"From `{package}`.\n\n" if package and level == "##" else ""
        parts.append(f"{level} `kafkaesk {name}`\n\n{whose}```text\n{text}\n```\n")
    return "\n".join(parts)


def examples_page() -> str:
    """Return the page of single-file examples, each with its docstring."""
    parts = [
        f"{NOTE}# Examples\n\nWhole services of at most 60 lines, from `examples/` of the "
        "repository. The tests run each of them. Save one in a directory `examples`, "
        "and run it as its text says.\n"
    ]
    for path in sorted(EXAMPLES.glob("*.py")):
        module = path.read_text()
        text = inspect.cleandoc(ast.get_docstring(ast.parse(module)) or "")
        title, _, rest = text.partition("\n\n")
        command, _, more = rest.partition("\n\n")
        code = module.split('"""', 2)[2].strip()
        parts.append(
            f"## `{path.stem}.py`\n\n{title}\n\n{_shell(command)}\n{more}\n".rstrip() + "\n"
        )
        parts.append(f"```python\n{code}\n```\n")
    return "\n".join(parts)


def _shell(command: str) -> str:
    return f"```bash\n{textwrap.dedent(command).strip()}\n```\n"


PAGES: dict[str, Callable[[], str]] = {
    "api.md": api_page,
    "hooks.md": hooks_page,
    "settings.md": settings_page,
    "command.md": command_page,
    "examples.md": examples_page,
}
"""The pages of docs/reference, with the function that generates each."""
