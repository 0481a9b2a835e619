"""A hook of the service itself, and a plugin with settings that tells how long handling takes.

kafkaesk examples.custom_hook:app --kafka-servers embedded://

A package with `timing = "timing:Timing"` in its entry points turns it on when installed.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from kafkaesk_core import Application, Delivery, IncomingMessage, OutgoingMessage, hookimpl

logger = logging.getLogger("timing")
Handle = Callable[[IncomingMessage], Awaitable[Any]]


class Timing:
    class Settings(BaseModel):
        slow: float = 0.0  # seconds; KAFKAESK_TIMING_SLOW where it is installed

    stage = "observe"  # outermost

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: Handle) -> Any:
        started = time.perf_counter()
        try:
            return await call_next(message)
        finally:
            seconds = time.perf_counter() - started
            if seconds >= self.settings.slow:
                logger.info("%s@%d took %.6f s", message.topic, message.offset, seconds)


app = Application(plugins=[Timing(Timing.Settings())])


@app.hook
async def wrap_publish(
    message: OutgoingMessage, call_next: Callable[[OutgoingMessage], Awaitable[Delivery]]
) -> Delivery:
    message.headers.append(("published-by", b"examples.custom_hook"))
    return await call_next(message)


@app.subscribe("greetings", "greeters")
async def greet(greeting: bytes) -> None: ...


async def say_hello() -> None:
    await app.raw_publish("greetings", b"hello")


app.on("initialize", say_hello)
