"""The handler that ships log records to a stream."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

from kafkaesk_core.plugin import handled_messages

from .buffer import LogStats
from .envelope import LineEncoder
from .losses import ShippingHandler
from .queue import AppReference, KafkaeskQueue
from .record_factory import install_record_factory, uninstall_record_factory
from .settings import LineOptions, Options, QueueOptions, read_options
from .shipper import SUPPRESS_SHIPPING

__all__ = ["PydanticKafkaeskHandler"]

_QUEUE = frozenset(QueueOptions.model_fields)


class _Thread(threading.local):
    """Whether this thread is encoding a line; lines logged by its models are not shipped.

    It is not a context variable, because setting one allocates memory, which fails in the garbage
    collector.
    """

    is_emitting = False


_THREAD = _Thread()


class PydanticKafkaeskHandler(ShippingHandler, logging.Handler):
    """Ships records to a stream of an application, without ever waiting for Kafka.

    `app` is the application, "module:attribute", a function that returns the application, or None
    for the application that starts next. `options` are LineOptions and, unless the handler shares
    another handler's `queue`, QueueOptions.

    Raises:
        ConfigurationError: an option is unknown or invalid.
    """

    # Any: options of several types, checked at once.
    def __init__(
        self,
        app: AppReference = None,
        stream: str = "logs",
        queue: KafkaeskQueue | None = None,
        *,
        level: int | str = logging.NOTSET,
        **options: Any,
    ) -> None:
        known = Options if queue is None else LineOptions
        checked = read_options(known, options, type(self).__name__)
        super().__init__(level)
        given = {name: options[name] for name in options if name in _QUEUE}
        self.queue = KafkaeskQueue(app, **given) if queue is None else queue
        self.queue.acquire()
        self.stream = stream
        self._use(LineOptions(**checked.model_dump(include=set(LineOptions.model_fields))))
        self._is_open = True
        install_record_factory()

    def _use(self, options: LineOptions) -> None:
        self._options = options
        self._lines = LineEncoder(options)
        self._excluded: dict[str, bool] = {}
        host = socket.gethostname().encode()
        self._key: Any = options.key  # Any: of several types
        if options.key == "hostname":
            self._key = lambda _: host
        elif options.key == "logger":
            self._key = lambda record: record.name.encode()

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record if the filters pass it, without the handler's lock.

        The queue has its own locks, and a thread that waits for room must not delay others.
        """
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def clone(self) -> PydanticKafkaeskHandler:
        """Return another handler for the same stream that shares the queue."""
        options = {name: getattr(self._options, name) for name in LineOptions.model_fields}
        other = type(self)(stream=self.stream, queue=self.queue, level=self.level, **options)
        other.formatter = self.formatter
        return other

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; errors are reported by `handleError`, never raised."""
        if _THREAD.is_emitting or SUPPRESS_SHIPPING.get():
            self.queue.buffer.suppress()
            return
        _THREAD.is_emitting = True
        try:
            if self._is_excluded(record.name) or self._is_about_stream():
                self.queue.buffer.suppress()
                return
            line = self._lines.encode(record, self.formatter)
            key = None if self._key is None else self._key_of(record)
            self.queue.put((line, self.stream, key, int(record.created * 1000)), record.levelno)
        except Exception:  # raised by arguments, models, formatters or providers
            self.handleError(record)
        finally:
            _THREAD.is_emitting = False

    def _key_of(self, record: logging.LogRecord) -> bytes | None:
        key = self._key(record)
        if key is None or isinstance(key, bytes):
            return key
        raise TypeError(f"key= returned {type(key).__name__} for a log line, not bytes")

    def _is_excluded(self, name: str) -> bool:
        is_excluded = self._excluded.get(name)
        if is_excluded is None:
            is_excluded = f"{name}.".startswith(
                tuple(f"{excluded}." for excluded in self._options.exclude_loggers)
            )
            self._excluded[name] = is_excluded
        return is_excluded

    def _is_about_stream(self) -> bool:
        """Whether a message of this stream is being handled: its lines would loop forever."""
        handled = handled_messages()
        return handled is not None and handled.messages[0].stream == self.stream

    def stats(self) -> LogStats:
        """Return the counts of all handlers that share the queue."""
        return self.queue.stats()

    async def drain(self, timeout: float = 5.0) -> bool:
        """Wait until every line so far has its outcome; return False if that takes too long."""
        return await self.queue.drain(timeout)

    def flush(self) -> None:
        """Wait for at most `flush_timeout`, and not at all on the application's event loop."""
        self.queue.flush(self.queue.options.flush_timeout)

    def close(self) -> None:
        """Stop shipping; the last handler of a queue closes the queue."""
        if self._is_open:
            self._is_open = False
            uninstall_record_factory()
            self.queue.release()
        super().close()
