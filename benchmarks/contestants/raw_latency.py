"""The control for latency: aiokafka's producer and consumer in one process."""

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pydantic import TypeAdapter

from benchmarks.contestants.raw import PREFIX, Typed
from benchmarks.order import Order, order
from benchmarks.percentiles import curve
from benchmarks.task import Result, Task, answer


async def latency(task: Task) -> Result:
    """Publish at a rate; measure from each call to its acknowledgement and to its handler."""
    acks, handled = list[float](), list[float]()
    to_json, validate = (
        Order.__pydantic_serializer__.to_json,
        TypeAdapter(Typed).validator.validate_json,
    )
    settings = {"bootstrap_servers": task.servers}
    producer = AIOKafkaProducer(**settings, enable_idempotence=True, acks="all")
    consumer = AIOKafkaConsumer(
        task.topic, **settings, group_id=task.option("group", "raw"), auto_offset_reset="earliest"
    )

    def acknowledged(started: float) -> Any:
        return lambda _: acks.append(time.perf_counter() - started)

    async def consume() -> None:
        while len(handled) < task.warm_up + task.count:
            batches = await consumer.getmany(timeout_ms=200)
            for records in batches.values():
                for record in records:
                    message: Order = validate(record.value)["data"]
                    handled.append(time.perf_counter() - float(message.note))

    await producer.start()
    await consumer.start()
    try:
        consuming = asyncio.create_task(consume())
        while not consumer.assignment():
            await asyncio.sleep(0.05)
        start, cpu = time.perf_counter(), time.process_time()
        for number in range(task.warm_up + task.count):
            await asyncio.sleep(start + number / task.option("rate", 1000) - time.perf_counter())
            now = time.perf_counter()
            message = order().model_copy(update={"note": repr(now)})
            future = await producer.send(task.topic, PREFIX + to_json(message) + b"}")
            future.add_done_callback(acknowledged(now))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        await consuming
    finally:
        await consumer.stop()
        await producer.stop()
    details = {
        "ack": curve(acks[task.warm_up :]),
        "handler": curve(handled[task.warm_up :]),
    }
    return Result(task.count, seconds, cpu, details)


def measured(task: Task) -> Result:
    """Do the only job."""
    return asyncio.run(latency(task))


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
