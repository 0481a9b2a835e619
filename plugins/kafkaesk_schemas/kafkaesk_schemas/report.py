"""The output of findings: as text, as JSON, or as GitHub annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from .review import Detail, Finding

__all__ = ["headline", "render"]

_SAYS = {
    "same": "is as it was frozen",
    "changed": "is not as it was frozen",
    "unreadable": "no longer reads what it read when it was frozen",
}
_LONGEST = 300


def render(findings: Sequence[Finding], style: str, *, allows_unknown: bool) -> Iterator[str]:
    """Yield the lines of a report; `style` is "text", "json" or "github"."""
    if style == "json":
        found = [{**asdict(each), "refused": _fails(each, allows_unknown)} for each in findings]
        yield json.dumps(found, indent=2, ensure_ascii=False)
    elif style == "github":
        for each in findings:
            if each.is_refusal or each.answer == "unknown":
                level = "error" if _fails(each, allows_unknown) else "warning"
                yield _annotation(level, each)
        yield _summary(findings, allows_unknown)
    else:
        for each in findings:
            yield from _text(each)
        yield _summary(findings, allows_unknown)


def _fails(finding: Finding, allows_unknown: bool) -> bool:
    return finding.is_refusal or (finding.answer == "unknown" and not allows_unknown)


def headline(finding: Finding) -> str:
    """Return a finding in one line."""
    if finding.answer in _SAYS:
        return f"{finding.schema} {_SAYS[finding.answer]}"
    verb = {
        "compatible": "reads",
        "incompatible": "cannot read",
        "unknown": "may not read",
    }[finding.answer]
    note = f", {finding.note}" if finding.note else ""
    return f"{finding.reader} {verb} what {finding.writer} writes{note} ({finding.mode})"


def _text(finding: Finding) -> Iterator[str]:
    is_good = finding.answer in ("same", "compatible")
    yield f"{'ok' if is_good else 'no'}  {headline(finding)}"
    for detail in finding.details:
        yield f"      {_place(detail)}{detail.reason}"
        if detail.error:
            yield f"        {_message(detail)}"
            yield f"        {detail.error}"
    if finding.readers and not is_good:
        yield f"      read by {'; '.join(finding.readers)}"
    if finding.remedy:
        yield f"      remedy: {finding.remedy}"


def _place(detail: Detail) -> str:
    return f"{detail.path}: " if detail.path else ""


def _message(detail: Detail) -> str:
    text = json.dumps(detail.message, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _summary(findings: Iterable[Finding], allows_unknown: bool) -> str:
    found = list(findings)
    if not found:
        return "no schemas are registered"
    failed = [each for each in found if _fails(each, allows_unknown)]
    count = len({each.schema for each in found})
    schemas = "1 schema" if count == 1 else f"{count} schemas"
    names = ", ".join(dict.fromkeys(each.schema for each in failed))
    return f"{schemas}, refused: {names}" if names else f"{schemas}, nothing is refused"


def _annotation(level: str, finding: Finding) -> str:
    """Return an annotation that GitHub shows beside the model."""
    lines = list(_text(finding))[1:]
    text = "\n".join([headline(finding), *(line.strip() for line in lines)])
    place = ""
    if finding.file:
        place = f"file={_property(os.path.relpath(finding.file))},line={finding.line},"
    return f"::{level} {place}title={_property(finding.schema)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
