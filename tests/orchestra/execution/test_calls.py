import asyncio

from graphs.motifs import MOTIFS
from orchestra.execution.calls import BEGINNING_AT_ONCE
from orchestra.ledger import Price
from orchestra.testing import ScriptedModel

PAIR = MOTIFS["chain"](["first", "second"])


async def test_far_more_calls_than_may_begin_at_once_all_end_although_most_wait_for_money(opened):
    price = Price(0, 1_000_000, "test")  # one nano-USD a token of reply: 256 are reserved, one is paid
    model = ScriptedModel(lambda request: "ok", delay_seconds=0.001, price=price)
    plays = 5 * BEGINNING_AT_ONCE
    async with opened(model, cap_nano=2 * plays + 3 * 256) as (runtime, _):
        ended = await asyncio.gather(*(runtime.play(PAIR, "go", key=str(number)) for number in range(plays)))
    assert [played.error for played in ended] == [None] * plays
    assert model.running_most <= 3 + 2 * plays // 256


async def test_calls_cancelled_at_any_point_give_up_their_places(opened):
    async with opened(delay_seconds=0.01) as (runtime, model):
        for hops in range(0, 60, 3):
            keys = (f"{hops}-{number}" for number in range(2 * BEGINNING_AT_ONCE))
            plays = [asyncio.create_task(runtime.play(PAIR, "go", key=key)) for key in keys]
            for _ in range(hops):
                await asyncio.sleep(0)
            for play in plays:
                play.cancel()
            await asyncio.gather(*plays, return_exceptions=True)
        assert model.cancelled > 0
        assert runtime.ledger.reserved == 0
        ended = await asyncio.gather(*(runtime.play(PAIR, "go", key=str(number)) for number in range(40)))
    assert all(played.reply == "ok" for played in ended)
