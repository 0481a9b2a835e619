"""The time of a stop: what each phase may use of it, and that nobody counts it twice (rule 34)."""

from __future__ import annotations

import asyncio

import pytest

from kafkaesk_core.shutdown import Phase, Shutdown
from kafkaesk_core.tasks import finish

PHASES: list[Phase] = [
    "drain",
    "commit",
    "cancel",
    "leave",
    "finalize",
    "plugins",
    "flush",
    "disconnect",
]


@pytest.mark.parametrize("timeout", [2.0, 25.0, 60.0])
async def test_each_phase_leaves_time_to_those_after_it(timeout: float) -> None:
    shutdown = Shutdown(timeout)

    left = [shutdown.left(phase) for phase in PHASES]

    assert left == sorted(left)
    assert len(set(left)) == len(PHASES)
    assert left[-1] == timeout
    assert left[0] >= 0.6 * timeout  # the 15 s of drain_timeout, of 25 s


async def test_only_the_time_of_the_stop_itself_is_counted() -> None:
    shutdown = Shutdown(10)
    await asyncio.sleep(0.05)
    assert shutdown.left("disconnect") == 10

    with shutdown, shutdown:
        await asyncio.sleep(0.05)
        spent = 10 - shutdown.left("disconnect")
    await asyncio.sleep(0.05)

    assert 0.04 < spent < 0.09
    assert 10 - shutdown.left("disconnect") == pytest.approx(spent, abs=0.005)


async def test_a_stop_that_follows_another_one_has_what_is_left_of_the_time() -> None:
    shutdown = Shutdown(0.1)
    with shutdown:
        await asyncio.sleep(0.11)

    assert shutdown.left("disconnect") == 0
    shutdown.reset()
    assert shutdown.left("disconnect") == 0.1


async def test_finish_waits_for_the_end_however_often_it_is_cancelled() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.1)
        ended.set()

    waiting = asyncio.create_task(finish(work()))
    for _ in range(5):
        await asyncio.sleep(0)
        waiting.cancel()

    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert ended.is_set()


async def test_finish_hands_on_results_and_errors() -> None:
    async def fail() -> None:
        raise ValueError("no")

    assert await finish(asyncio.sleep(0, "yes")) == "yes"
    with pytest.raises(ValueError, match="no"):
        await finish(fail())


async def test_finish_leaves_no_exception_behind_that_nobody_has_looked_at() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    work = asyncio.ensure_future(fail())
    waiting = asyncio.create_task(finish(work))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert not work._log_traceback  # what asyncio asks before it says so
