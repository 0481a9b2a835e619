"""Log lines with the handler of kafkaesk 0.8, in its own environment; prints JSON."""

import asyncio  # no postponed annotations: the library reads them as they stand
import json
import logging
import sys
import time
from typing import Any


async def emitting(lines: int, rounds: int) -> list[float]:
    """Microseconds per call of `logger.info`, round by round; nothing is published."""
    logger, handler, Order = _logger("localhost:1")
    handler._queue._task = asyncio.get_running_loop().create_future()  # its worker does nothing
    found = []
    for _ in range(rounds):
        handler._queue._queue = asyncio.Queue(maxsize=lines + 1)
        order = Order()
        started = time.perf_counter()
        for _ in range(lines):
            logger.info("order placed", order)
        found.append((time.perf_counter() - started) / lines * 1e6)
    return found


async def shipping(servers: str, lines: int) -> list[float]:
    """Lines per second until the broker has them all."""
    logger, handler, Order = _logger(servers)
    app = handler.app
    async with app:
        logger.info("order placed", Order())
        await asyncio.sleep(1)
        started = time.perf_counter()
        for _ in range(lines // 1000):
            for _ in range(1000):
                logger.info("order placed", Order())
            while handler._queue._queue.qsize() > 5000:
                await asyncio.sleep(0)
        while handler._queue._queue.qsize():
            await asyncio.sleep(0)
        await app.flush()
        took = time.perf_counter() - started
        handler._queue.close()
    return [lines / took]


def _logger(servers: str) -> tuple[logging.Logger, Any, Any]:
    import kafkaesk
    from kafkaesk.ext.logging import PydanticKafkaeskHandler
    from pydantic import BaseModel

    class Order(BaseModel):
        _is_log_model = True
        number: int = 7
        article: str = "a coffee"
        price: float = 2.5

    logger = logging.Logger("shop", logging.INFO)
    handler = PydanticKafkaeskHandler(kafkaesk.Application(kafka_servers=[servers]), "logs.peer")
    logger.addHandler(handler)
    return logger, handler, Order


if __name__ == "__main__":
    if sys.argv[1] == "emit":
        print(json.dumps(asyncio.run(emitting(int(sys.argv[2]), int(sys.argv[3])))))
    else:
        print(json.dumps(asyncio.run(shipping(sys.argv[2], int(sys.argv[3])))))
