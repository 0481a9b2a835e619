"""The stored description of a failure: its class, its text, its stack, its fingerprint."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from kafkaesk_core import KafkaeskError

__all__ = ["AttemptsExhaustedError", "Failure", "describe_failure"]

MESSAGE_BYTES = 4096
_CUT = "... "
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_OURS = ("kafkaesk_core", "kafkaesk_retry")


class AttemptsExhaustedError(KafkaeskError):
    """A record used up its attempts in processes that ended before its handler ended."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The parts of an error that a dead letter stores.

    `fingerprint` is the same for failures of the same kind: the error's class, and the deepest
    function of the service's own code in its traceback.
    """

    exception: str
    message: str
    stacktrace: str
    fingerprint: str
    cause: str | None = None


def describe_failure(error: BaseException, stacktrace_bytes: int) -> Failure:
    """Describe an error, even if its `__str__` fails."""
    name = _full_name(type(error))
    frame = _deepest_own_frame(error.__traceback__)
    return Failure(
        exception=name,
        message=_end_cut(_text(error), MESSAGE_BYTES),
        stacktrace=_start_cut(_stack(error), stacktrace_bytes),
        fingerprint=f"{name}@{frame}" if frame else name,
        cause=None if error.__cause__ is None else _full_name(type(error.__cause__)),
    )


def _full_name(kind: type) -> str:
    is_builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"{type(error).__name__}, whose text cannot be shown"


def _stack(error: BaseException) -> str:
    """Return the traceback from the first frame outside kafkaesk on."""
    trace = next((one for one in _frames(error.__traceback__) if not _is_ours(one)), None)
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception:
        return "".join(traceback.format_tb(trace))


def _deepest_own_frame(trace: TracebackType | None) -> str:
    """Return the service's deepest function as "module.function"; "" if there is none."""
    found = ""
    for frame in _frames(trace):
        code = frame.tb_frame.f_code
        if not (_is_ours(frame) or code.co_filename.startswith((*_LIBRARIES, "<frozen"))):
            found = f"{_module(frame)}.{code.co_qualname}"
    return found


def _is_ours(frame: TracebackType) -> bool:
    return _module(frame).partition(".")[0] in _OURS


def _module(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", "?"))


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _end_cut(text: str, limit: int) -> str:
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - len(_CUT)].decode(errors="ignore") + _CUT


def _start_cut(text: str, limit: int) -> str:
    """Cut the beginning; keep the deepest frames and the error's text."""
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= limit:
        return raw.decode()
    return _CUT + raw[len(raw) - max(limit - len(_CUT), 0) :].decode(errors="ignore")
