"""A dependency is down for a minute under load: retries, the breaker, dead letters, recovery.

kafkaesk examples.outage:app --kafka-servers embedded://

Needs the package kafkaesk-retry. OUTAGE, the seconds, and RATE, the orders per second, may stand
in the environment. It ends when every order is billed or a dead letter, and says how many are.
"""

import asyncio
import os
import time

import kafkaesk_core
from kafkaesk_retry import retries

OUTAGE, RATE = float(os.environ.get("OUTAGE", "60")), int(os.environ.get("RATE", "200"))
REPORT = min(5.0, OUTAGE or 5.0)
UNTRIED = {"retried": 0, "dead": 0, "breaker": "closed"}

app = kafkaesk_core.Application()
began = time.monotonic()
up_again: dict[str, float] = {}  # when the bank answers again: OUTAGE after it was first asked
counts = {"placed": 0, "tried": 0, "billed": 0}
tasks: list[asyncio.Task[None]] = []


@app.subscribe("orders.placed", "billing", ordering="key", concurrency=50)
@retries(attempts=4, first=0.2)
async def bill(order: bytes) -> None:
    counts["tried"] += 1
    if time.monotonic() < up_again.setdefault("at", time.monotonic() + OUTAGE):
        raise ConnectionError("the bank does not answer")
    counts["billed"] += 1


async def place_orders() -> None:
    while time.monotonic() < up_again.get("at", 1e18) + REPORT:
        while counts["placed"] < (time.monotonic() - began) * RATE:
            counts["placed"] += 1
            await app.raw_publish("orders.placed", b"...", key=b"%d" % (counts["placed"] % 997))
        await asyncio.sleep(0.05)


async def watch() -> None:
    placing, before = asyncio.create_task(place_orders()), dict(counts)
    while True:
        await asyncio.sleep(REPORT)
        rates = ", ".join(f"{(counts[n] - before[n]) / REPORT:.0f} {n}/s" for n in counts)
        retry = app.status().plugins["retry"]
        told, before = retry.get("examples.outage.bill", UNTRIED), dict(counts)
        now = f"{told['retried']} retried, {told['dead']} dead, breaker {told['breaker']}"
        print(f"{time.monotonic() - began:4.0f} s: {rates}; {now}", flush=True)
        if placing.done() and counts["billed"] + told["dead"] >= counts["placed"]:
            print(f"{counts['billed']} of {counts['placed']} orders are billed", flush=True)
            return await app.stop()


@app.on("initialize")
async def begin() -> None:
    tasks.append(asyncio.create_task(watch()))
