"""What plays cost: each its own, together what the ledger paid, and never more than a cap."""

import asyncio

import pytest

from graphs import Sampling
from graphs.motifs import chain, debate
from orchestra.errors import CannotAfford
from orchestra.ledger import Price

A_TOKEN = Price(180_000_000_000, 180_000_000_000, "180 000 nano-USD a token")
TEAM = debate(["one", "two", "three"], sampling=Sampling(max_tokens=40))


def as_long_as_the_task(request):
    """A reply whose length is the number in the task."""
    return " ".join(["word"] * int(request.messages[-1].content.split()[1]))


async def test_the_cap_is_tested_not_the_field(opened):
    async with opened(cap_nano=10_000, price=A_TOKEN) as (runtime, model):
        plays = [await runtime.play(chain(["only"]), "go", key=str(number)) for number in range(10)]
    assert all(isinstance(played.error, CannotAfford) for played in plays)
    assert (len(model.requests), runtime.ledger.spent) == (0, 0)


@pytest.mark.parametrize("listener", [None, lambda event: None], ids=["whole replies", "streamed"])
async def test_plays_at_once_do_not_count_each_others_tokens(opened, listener):
    texts = [f"say {number} words" for number in range(1, 21)]
    async with opened(as_long_as_the_task, price=A_TOKEN) as (runtime, _):
        alone = [await runtime.play(TEAM, text, key=f"alone/{text}") for text in texts]
        together = await asyncio.gather(
            *(runtime.play(TEAM, text, key=f"together/{text}", listener=listener) for text in texts)
        )
        assert runtime.ledger.spent == sum(played.paid_nano for played in (*alone, *together))
    assert [played.spent for played in together] == [played.spent for played in alone]
    assert all(played.paid_nano == played.spent.list_nano > 0 for played in together)
    assert len({played.paid_nano for played in together}) == len(texts)


async def test_twenty_plays_at_once_stay_under_a_cap_and_use_it(opened):
    async with opened(as_long_as_the_task, price=Price(10**9, 10**9, "stated"), cap_nano=600_000) as (runtime, model):
        plays = await asyncio.gather(*(runtime.play(TEAM, "say 5 words", key=str(number)) for number in range(20)))
        assert 400_000 < runtime.ledger.spent <= 600_000
        assert runtime.ledger.reserved == 0
    assert any(isinstance(played.error, CannotAfford) for played in plays)
    assert all(bool(played.reply) == bool(played.spoke) for played in plays), "what was said before is not lost"
    assert model.finished == sum(played.spent.calls for played in plays)
