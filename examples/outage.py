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

app = kafkaesk_core.Application()
began = time.monotonic()
counts = {"placed": 0, "tried": 0, "billed": 0}
tasks: list[asyncio.Task[None]] = []


@app.subscribe("orders.placed", "billing", ordering="key", concurrency=50)
@retries(attempts=4, first=0.2)
async def bill(order: bytes) -> None:
    counts["tried"] += 1
    if time.monotonic() - began < OUTAGE:
        raise ConnectionError("the bank does not answer")
    counts["billed"] += 1


async def place_orders() -> None:
    """Place orders while the bank is down, and for a while after."""
    while (elapsed := time.monotonic() - began) < OUTAGE + REPORT:
        while counts["placed"] < elapsed * RATE:
            counts["placed"] += 1
            await app.raw_publish("orders.placed", b"...", key=b"%d" % (counts["placed"] % 997))
        await asyncio.sleep(0.05)


async def watch() -> None:
    """Report, and stop when everything is settled."""
    placing, before = asyncio.create_task(place_orders()), dict(counts)
    while True:
        await asyncio.sleep(REPORT)
        rates = ", ".join(f"{(counts[n] - before[n]) / REPORT:.0f} {n}/s" for n in counts)
        told, before = app.status().plugins["retry"]["examples.outage.bill"], dict(counts)
        now = f"{told['retried']} retried, {told['dead']} dead, breaker {told['breaker']}"
        print(f"{time.monotonic() - began:4.0f} s: {rates}; {now}", flush=True)
        if placing.done() and counts["billed"] + told["dead"] >= counts["placed"]:
            print(f"{counts['billed']} of {counts['placed']} orders are billed", flush=True)
            return await app.stop()


@app.on("initialize")
async def begin() -> None:
    tasks.append(asyncio.create_task(watch()))
