"""Log records that carry pydantic models, and the factory that creates them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, ClassVar

from pydantic import BaseModel

__all__ = [
    "LogModel",
    "PydanticLogRecord",
    "factory",
    "install_record_factory",
    "is_log_model",
    "uninstall_record_factory",
]

# Any below: arguments of log calls are of any type.
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_MARK = "_is_log_model"
_NO_MODELS = frozenset({str, int, float, bool, type(None)})
_new, _init = logging.LogRecord.__new__, logging.LogRecord.__init__


class LogModel(BaseModel):
    """A base class for models; an instance given to a log call becomes fields of the line."""

    _is_log_model: ClassVar[bool] = True


class PydanticLogRecord(logging.LogRecord):
    """A log record, with the models among its arguments."""

    pydantic_data: Sequence[BaseModel] = ()

    def __init__(
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: ExcInfo | None,
        func: str | None = None,
        sinfo: str | None = None,
        pydantic_data: Iterable[BaseModel] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(name, level, fn, lno, msg, args, exc_info, func, sinfo, **kwargs)
        if pydantic_data:
            self.pydantic_data = list(pydantic_data)

    @property
    def exc_type(self) -> str | None:
        """The name of the exception's class."""
        kind = self.exc_info[0] if self.exc_info else None
        return None if kind is None else kind.__name__

    @property
    def stack_text(self) -> str | None:
        """The stack that the log call requested with `stack_info=True`."""
        return self.stack_info


def factory(
    name: str,
    level: int,
    fn: str,
    lno: int,
    msg: object,
    args: Any,
    exc_info: ExcInfo | None,
    func: str | None = None,
    sinfo: str | None = None,
    **kwargs: Any,
) -> PydanticLogRecord:
    """Create a record; log models among the arguments become its `pydantic_data`.

    For `logging.setLogRecordFactory`. A model fills a placeholder of the message only if no other
    argument is left.
    """
    models, others = _parted(args) if args else ((), args)
    if models:
        args = _filling(msg, others, args)
    # Not by the constructor, which would be one more call for every line of the process.
    record = _new(PydanticLogRecord)
    _init(record, name, level, fn, lno, msg, args, exc_info, func, sinfo, **kwargs)
    if models:
        record.pydantic_data = models
    return record


def is_log_model(value: object) -> bool:
    """Whether a value is a model whose class says `_is_log_model = True`.

    Only the class counts, because a model with `extra="allow"` may come from JSON with this key.
    """
    kind: Any = type(value)
    private = getattr(kind, "__private_attributes__", None)
    if private is None:
        return False
    if _MARK in private:
        own = getattr(value, "__pydantic_private__", None)
        return own is not None and own.get(_MARK) is True
    return getattr(kind, _MARK, None) is True and isinstance(value, BaseModel)


def _parted(args: Any) -> tuple[list[BaseModel], tuple[Any, ...]]:
    """Return the log models among the arguments, and the other arguments."""
    models: list[BaseModel] = []
    if type(args) is tuple:
        for arg in args:
            if type(arg) not in _NO_MODELS and is_log_model(arg):
                models.append(arg)
    if not models:
        return models, args
    return models, tuple([arg for arg in args if not any(arg is model for model in models)])


def _filling(msg: object, others: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the message's arguments, including models if there are placeholders for them."""
    text = msg if isinstance(msg, str) else str(msg)
    if text.count("%") == len(others) or _fits(text, others) or not _fits(text, args):
        return others
    return args


def _fits(text: str, args: tuple[Any, ...]) -> bool:
    try:
        _ = text % args
    except Exception:  # of the arguments' own code
        return False
    return True


class _Installation:
    """The factory that this package has wrapped around another, and the count of its users."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._link: _Link | None = None
        self.users = 0

    def install(self) -> None:
        with self._lock:
            self.users += 1
            current = logging.getLogRecordFactory()
            if not _finds_models(current):
                self._link = _Link(self, current)
                logging.setLogRecordFactory(self._link.make)

    def uninstall(self) -> None:
        with self._lock:
            self.users = max(0, self.users - 1)
            link = self._link
            if not self.users and link and logging.getLogRecordFactory() == link.make:
                logging.setLogRecordFactory(link.previous)
                self._link = None


class _Link:
    """A factory that wraps the previous factory.

    Other libraries may wrap it in turn. Then it cannot be removed, and while no handler needs it,
    it only passes its arguments on.
    """

    def __init__(self, installation: _Installation, previous: Any) -> None:
        self._installation = installation
        self.previous = previous

    def make(
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: ExcInfo | None,
        func: str | None = None,
        sinfo: str | None = None,
        **kwargs: Any,
    ) -> logging.LogRecord:
        """Create a record as the previous factory does, with the models in `pydantic_data`."""
        previous: Any = self.previous
        if self._installation.users and previous is logging.LogRecord:
            return factory(name, level, fn, lno, msg, args, exc_info, func, sinfo, **kwargs)
        models, others = _parted(args) if args and self._installation.users else ((), args)
        if models:
            args = _filling(msg, others, args)
        record: logging.LogRecord = previous(
            name, level, fn, lno, msg, args, exc_info, func, sinfo, **kwargs
        )
        if models:
            record.pydantic_data = [*getattr(record, "pydantic_data", ()), *models]
        return record


class _Probe(LogModel):
    """Stands for any log model."""


def _finds_models(make: Any) -> bool:
    """Whether a factory, or one that it calls, notes log models."""
    probe = _Probe()
    try:
        record = make("kafkaesk_logging", logging.NOTSET, "", 0, "", (probe,), None)
    except Exception:  # another package's factory
        return False
    return any(model is probe for model in getattr(record, "pydantic_data", ()))


_OF_PROCESS = _Installation()


def install_record_factory() -> None:
    """Let every log call of the process note log models, on top of the present factory.

    Calls are counted: the factory stays until `uninstall_record_factory` was called as often. The
    plugin, and handlers of this package, install it while they are open.
    """
    _OF_PROCESS.install()


def uninstall_record_factory() -> None:
    """Undo one `install_record_factory`; the last call restores the previous factory."""
    _OF_PROCESS.uninstall()
