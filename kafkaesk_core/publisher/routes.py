"""The topics that a publisher writes to: ready, in the making, or gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextvars import Context

import aiokafka.errors as kafka

from kafkaesk_core.errors import DeliveryFailedError, MessageTooLargeError, NotRunningError
from kafkaesk_core.kafka.errors import is_retryable, translate
from kafkaesk_core.message import OutgoingMessage
from kafkaesk_core.schema.registry import SchemaRegistration
from kafkaesk_core.topics import Topics

from .desk import Desk
from .route import Route

__all__ = ["Routes"]

logger = logging.getLogger("kafkaesk.publisher")

_PAUSE_SECONDS = 0.5
_LIMITS_SECONDS = 10.0  # after which a topic's limit is asked for again, if a message exceeds it
_MISSED_TO_BE_GONE = 2  # looks at the metadata, in turn, without the topic


class Routes:
    """The routes of a publisher: opened on first use, closed when their topic disappears."""

    def __init__(self, topics: Topics, desk: Desk) -> None:
        self._topics = topics
        self._desk = desk
        self._routes: dict[str, Route] = {}
        self.get = self._routes.get

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    async def admit(
        self, topic: str, registration: SchemaRegistration | None, timeout: float
    ) -> Route:
        """Return the topic's route once it is ready, in the order of the calls.

        Raises:
            KafkaeskError: why the topic cannot be used.
            DeliveryFailedError: it was not ready within `timeout` seconds.
        """
        route = self._routes.get(topic)
        if route is None:
            route = self._routes[topic] = Route(topic, self._desk)
        if not route.is_ready:
            route.registration = registration
            self._open(route)
        try:
            await route.line.wait(0, timeout)
        except TimeoutError as error:
            raise DeliveryFailedError(
                f"publishing to {topic} was given up after {timeout:g} seconds: "
                f"the topic was not ready ({route.trouble or 'no answer'})",
                topic=topic,
            ) from error
        finally:
            self._after_admission(route)
        return route

    def check_size(self, route: Route, message: OutgoingMessage, value: bytes | None) -> None:
        """Refuse a message that is too large, and ask for the topic's limit again.

        Raises:
            MessageTooLargeError: with the size, the limit, and the setting that it comes from.
        """
        try:
            route.check_size(message, value)
        except MessageTooLargeError:
            now = asyncio.get_running_loop().time()
            if route.opening is None and now - route.limits_at > _LIMITS_SECONDS:
                work = self._renew_limits(route)
                route.opening = asyncio.get_running_loop().create_task(work, context=Context())
            raise

    def refresh(self) -> None:
        """Compare the routes with the producer's metadata."""
        session = self._desk.link.session
        for route in self._routes.values():
            if session is None or not route.is_ready:
                continue
            partitions = session.producer.known_partitions(route.topic)
            if partitions:
                route.missed = 0
                route.set_partitions(partitions)
            elif partitions is not None:
                route.missed += 1
                if route.missed >= _MISSED_TO_BE_GONE:
                    self._close(route)

    async def stop(self) -> None:
        """Send away who waits, and end what is under way."""
        tasks = [route.opening for route in self if route.opening is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for route in self:
            route.is_ready = route.is_open = False
            route.line.refuse(NotRunningError("the publisher was stopped"))

    def _after_admission(self, route: Route) -> None:
        if route.is_ready:
            route.line.admit()  # those who came meanwhile
            route.is_open = not route.line

    def _close(self, route: Route) -> None:
        """The broker no longer knows the topic: it was deleted."""
        route.is_ready = route.is_open = False
        route.missed = 0
        self._topics.invalidate(route.topic)
        if route.is_busy:
            self._open(route)

    def _open(self, route: Route) -> None:
        if route.opening is None:
            work = self._make_ready(route)
            route.opening = asyncio.get_running_loop().create_task(work, context=Context())

    async def _make_ready(self, route: Route) -> None:
        try:
            while not route.is_ready:
                await self._try(route)
        except Exception as error:
            route.line.refuse(_ours(error, route.topic))
        finally:
            route.opening = None
        self._after_admission(route)

    async def _try(self, route: Route) -> None:
        try:
            await self._topics.ensure(route.topic, route.registration)
            session = await self._desk.link.wait_for_session()
            route.set_partitions(await session.producer.partitions(route.topic))
            route.set_limits(session.producer, self._topics.facts(route.topic))
            route.is_ready = True
        except Exception as error:
            error.__traceback__ = None
            route.trouble = error
            if not is_retryable(error) or not route.is_busy:
                raise
            if isinstance(error, kafka.UnknownTopicOrPartitionError):
                self._topics.invalidate(route.topic)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _renew_limits(self, route: Route) -> None:
        try:
            self._topics.invalidate(route.topic)
            await self._topics.ensure(route.topic, route.registration)
            route.set_limits(self._desk.link.producer, self._topics.facts(route.topic))
        except Exception:
            logger.warning("the limits of topic %s could not be asked for", route.topic)
        finally:
            route.opening = None
        if route.is_busy and not route.is_ready:  # the topic was deleted meanwhile
            self._open(route)


def _ours(error: Exception, topic: str) -> Exception:
    if isinstance(error, kafka.KafkaError):
        return translate(error, f"looking up topic {topic}", topic=topic)
    return error
