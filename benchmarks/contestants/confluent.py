"""The contestant confluent-kafka, in its own environment: the client in C, without asyncio."""

import json

from confluent_kafka import Consumer, Producer

from benchmarks.order import Order, order
from benchmarks.task import Meter, Result, Task, answer

PREFIX = b'{"schema":' + json.dumps("Order:1").encode() + b',"data":'


def publish(task: Task, meter: Meter) -> None:
    """Call `produce` with a callback each, until all are acknowledged; validate nothing."""
    producer = Producer(
        {"bootstrap.servers": task.servers, "enable.idempotence": True, "acks": "all"}
    )
    message, to_json = order(), Order.__pydantic_serializer__.to_json
    failures: list[object] = []

    def delivered(error: object, _: object) -> None:
        if error is not None:
            failures.append(error)

    def burst(count: int) -> None:
        for number in range(count):
            value = PREFIX + to_json(message) + b"}"
            try:
                producer.produce(task.topic, value, task.key(number), on_delivery=delivered)
            except BufferError:
                producer.poll(0.1)
                producer.produce(task.topic, value, task.key(number), on_delivery=delivered)
            producer.poll(0)
        producer.flush()

    burst(task.warm_up)
    with meter.measured():
        burst(task.count)
    if failures:
        raise RuntimeError(f"{len(failures)} were not delivered: {failures[0]}")


def consume(task: Task, meter: Meter) -> None:
    """Call `consume(500)` and nothing else."""
    group = task.option("group", "confluent")
    settings = {"bootstrap.servers": task.servers, "group.id": group}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest", "session.timeout.ms": 6000})
    consumer.subscribe([task.topic])
    try:
        while meter.result is None:
            meter.saw(len(consumer.consume(500, 1.0)))
    finally:
        consumer.close()


def measured(task: Task) -> Result:
    """Do one job."""
    meter = Meter(task)
    jobs = {"publish": publish, "consume": consume}
    jobs[task.job](task, meter)
    return meter.final()


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
