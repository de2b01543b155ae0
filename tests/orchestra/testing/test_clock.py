import asyncio
import time

from orchestra.testing import FakeClock


async def test_a_day_passes_at_once():
    clock, began = FakeClock(100.0), time.perf_counter()
    await clock.sleep(86_400)
    assert (clock(), clock.sleeps) == (86_500.0, [86_400])
    assert time.perf_counter() - began < 5


async def test_others_run_while_somebody_sleeps():
    heard = []

    async def other():
        heard.append("other")

    task = asyncio.ensure_future(other())
    await FakeClock().sleep(1)
    await task
    assert heard == ["other"]
