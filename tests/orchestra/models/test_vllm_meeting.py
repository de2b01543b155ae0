"""A server that is met for the first time is probed once, and what that costs is on the books."""

from graphs import Sampling
from graphs.motifs import MOTIFS
from orchestra.execution import Runtime, Settings
from orchestra.ledger import Price
from orchestra.models import open_model
from orchestra.models.retry import RetryPolicy
from orchestra.testing import Answer, FaultyServer
from orchestra.traces.store import Store

PRICE = Price(1_000_000, 1_000_000_000, "test")
CAP_NANO = 2_000_000
RETRY = RetryPolicy(attempts=3, refusals=5, first_seconds=0.01, longest_seconds=0.02)


async def test_a_server_that_refuses_the_very_first_question_is_asked_again_and_all_it_served_is_paid(tmp_path):
    sampled = MOTIFS["solo"](["Go."]).model_copy(update={"sampling": Sampling(temperature=0.7, max_tokens=32)})
    with Store.open(tmp_path / "store.sqlite") as store:
        async with FaultyServer([Answer(status=429), Answer(status=500), Answer(text="all is well")]) as server:
            model = open_model(f"vllm/loopback@{server.url.removesuffix('/v1')}", price=PRICE)
            settings = Settings(model="asked", retry=RETRY)
            async with Runtime.opened(
                "run", store=store, settings=settings, cap_nano=CAP_NANO, models={"asked": model}
            ) as runtime:
                played = await runtime.play(sampled, "go", key="0")
        assert (played.error, played.reply) == (None, "all is well")
        served = [one for one in server.served if one.status == 200]
        assert len(served) == 3  # two probes of how it counts, and the reply
        assert runtime.ledger.spent == sum(PRICE.cost(one.prompt_tokens, one.completion_tokens) for one in served)
