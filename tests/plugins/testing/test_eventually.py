import pytest

from kafkaesk_testing import eventually


async def test_a_condition_may_be_asynchronous() -> None:
    asked = 0

    async def condition() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    await eventually(condition)

    assert asked == 3


async def test_an_asynchronous_condition_that_stays_false_fails() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(AssertionError, match=r"not true within 0\.05 seconds"):
        await eventually(never, within=0.05)


async def test_the_error_of_an_asynchronous_condition_is_raised() -> None:
    async def fails() -> bool:
        raise ValueError("no broker")

    with pytest.raises(ValueError, match="no broker"):
        await eventually(fails)
