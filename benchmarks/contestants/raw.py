"""The control: aiokafka and pydantic only."""

import asyncio
import gc
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from benchmarks.idle import rest, topics_of
from benchmarks.order import Order, order
from benchmarks.task import Meter, Result, Task, answer

DEFAULT = gc.get_threshold()
PREFIX = b'{"schema":' + json.dumps("Order:1").encode() + b',"data":'


class Typed(TypedDict):
    """The envelope."""

    schema: str
    data: Order


async def publish(task: Task, meter: Meter) -> None:
    """Call `send` without waiting for each, until all are acknowledged; validate nothing."""
    ticks = task.option("ticks", False)
    message, to_json = (
        order(padding=task.option("padding", 0)),
        Order.__pydantic_serializer__.to_json,
    )
    producer = AIOKafkaProducer(bootstrap_servers=task.servers, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        topics = task.option("topics", 1)
        names = [task.topic] if topics == 1 else [f"{task.topic}-{n}" for n in range(topics)]

        async def burst(count: int) -> None:
            for number in range(count):
                value = PREFIX + to_json(message) + b"}"
                await producer.send(names[number % topics], value, key=task.key(number))
                if ticks:
                    await asyncio.sleep(0)
            await producer.flush()

        await burst(max(task.warm_up, topics))
        with meter.measured():
            await burst(task.count)
    finally:
        await producer.stop()


async def publish_batches(task: Task, meter: Meter) -> None:
    """Send batches of 64 KiB by hand, one in flight per partition: the minimum with aiokafka."""
    message, to_json = order(), Order.__pydantic_serializer__.to_json
    producer = AIOKafkaProducer(
        bootstrap_servers=task.servers,
        enable_idempotence=True,
        acks="all",
        max_batch_size=64 * 1024,
    )
    await producer.start()
    try:
        partitions = cycle(sorted(await producer.partitions_for(task.topic)))
        sent: dict[int, asyncio.Future[object]] = {}

        async def burst(count: int) -> None:
            batch, partition = producer.create_batch(), next(partitions)
            for _ in range(count):
                value = PREFIX + to_json(message) + b"}"
                if batch.append(timestamp=None, key=None, value=value) is None:
                    await send(batch, partition)
                    batch, partition = producer.create_batch(), next(partitions)
                    batch.append(timestamp=None, key=None, value=value)
            await send(batch, partition)
            await asyncio.gather(*sent.values())

        async def send(batch: BatchBuilder, partition: int) -> None:
            if partition in sent:
                await sent[partition]
            sent[partition] = await producer.send_batch(batch, task.topic, partition=partition)

        await burst(task.warm_up)
        with meter.measured():
            await burst(task.count)
    finally:
        await producer.stop()


@asynccontextmanager
async def consumer_of(task: Task) -> AsyncIterator[AIOKafkaConsumer]:
    """Return a consumer of all partitions, from their beginning."""
    consumer = AIOKafkaConsumer(bootstrap_servers=task.servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        numbers = consumer.partitions_for_topic(task.topic) or set()
        while not numbers:
            await asyncio.sleep(0.05)
            await consumer._client.force_metadata_update()
            await consumer.topics()
            numbers = consumer.partitions_for_topic(task.topic) or set()
        consumer.assign([TopicPartition(task.topic, number) for number in sorted(numbers)])
        await consumer.seek_to_beginning()
        yield consumer
    finally:
        await consumer.stop()


async def consume(task: Task, meter: Meter) -> None:
    """Call `getmany`, validate each envelope into the model, and await an empty handler."""
    validate = TypeAdapter(Typed).validator.validate_json

    async def handle(message: Order) -> None:
        meter.saw()

    async with consumer_of(task) as consumer:
        while meter.result is None:
            batches = await consumer.getmany(timeout_ms=1000, max_records=500)
            for records in batches.values():
                for record in records:
                    await handle(validate(record.value)["data"])


async def consume_batch(task: Task, meter: Meter) -> None:
    """Like `consume`, with up to 500 models of a partition, gathered over several polls."""
    validate = TypeAdapter(Typed).validator.validate_json

    async def handle(messages: list[Order]) -> None:
        meter.saw(len(messages))

    gathered: defaultdict[TopicPartition, list[ConsumerRecord]] = defaultdict(list)
    async with consumer_of(task) as consumer:
        while meter.result is None:
            polled = await consumer.getmany(timeout_ms=100, max_records=500)
            for partition, records in polled.items():
                gathered[partition] += records
            for records in gathered.values():
                while len(records) >= 500 or (records and not polled):
                    batch, records[:500] = records[:500], []
                    await handle([validate(record.value)["data"] for record in batch])


async def consume_bytes(task: Task, meter: Meter) -> None:
    """Call `getmany` and nothing else."""
    async with consumer_of(task) as consumer:
        while meter.result is None:
            batches = await consumer.getmany(timeout_ms=1000, max_records=500)
            meter.saw(sum(len(records) for records in batches.values()))


async def idle(task: Task, meter: Meter) -> None:
    """Run groups that receive no records."""

    async def group(topic: str) -> None:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=task.servers, group_id=f"{topic}-group"
        )
        await consumer.start()
        try:
            await consumer.getone()
        finally:
            await consumer.stop()

    groups = [asyncio.create_task(group(topic)) for topic in topics_of(task)]
    await rest(task, meter)
    for each in groups:
        each.cancel()
    await asyncio.wait(groups)


def measured(task: Task) -> Result:
    """Do one job."""
    meter = Meter(task)
    gc.set_threshold(*task.option("collector", DEFAULT))
    jobs = {
        "publish": publish,
        "publish_batches": publish_batches,
        "consume": consume,
        "consume_batch": consume_batch,
        "consume_bytes": consume_bytes,
        "idle": idle,
    }
    asyncio.run(jobs[task.job](task, meter))
    return meter.final()


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
