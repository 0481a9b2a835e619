"""Log calls with the handler of kafkaesk 0.8, in its own environment."""

import asyncio
import logging
from typing import Any

from pydantic import BaseModel

import kafkaesk
from benchmarks.log_calls import fed, in_bursts
from benchmarks.task import Meter, Result, Task, answer
from kafkaesk.ext.logging import PydanticKafkaeskHandler


class Placed(BaseModel):
    """The logged model."""

    _is_log_model = True
    number: int
    article: str
    price: float


async def measure(task: Task, meter: Meter) -> None:
    """Measure as in logs.py; a line counts as delivered when the producer has flushed."""
    app = kafkaesk.Application(kafka_servers=[task.servers])
    handler: Any = PydanticKafkaeskHandler(app, task.topic)
    logger = logging.Logger("shop", logging.INFO)
    logger.addHandler(handler)

    def log(number: int) -> None:
        logger.info("order placed", Placed(number=number, article="a coffee", price=2.5))

    def backlog() -> int:
        return int(handler._queue._queue.qsize())

    async def settle() -> None:
        while backlog():
            await asyncio.sleep(0.0005)
        await asyncio.sleep(0)
        await app.flush()

    async with app:
        await in_bursts(task.warm_up, log, settle)
        with meter.measured():
            if task.job == "calls":
                caller = await in_bursts(task.count, log, settle)
            else:
                caller = (0.0, 0.0)
                await fed(task.count, log, backlog)
                await settle()
        assert meter.result is not None
        meter.result.details.update(caller=caller)
        handler._queue.close()


def measured(task: Task) -> Result:
    """Do one job."""
    meter = Meter(task)
    asyncio.run(measure(task, meter))
    return meter.final()


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
