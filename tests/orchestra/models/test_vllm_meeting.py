"""A server that is met for the first time is probed once, and what that takes is reserved and on the books."""

from contextlib import asynccontextmanager
from dataclasses import replace

from graphs import Sampling
from graphs.motifs import MOTIFS
from orchestra.benchmarks.tasks import Task
from orchestra.errors import BudgetError, OutOfTime
from orchestra.execution import Runtime, Settings
from orchestra.execution.runner import answer
from orchestra.ledger import Price
from orchestra.models import open_model
from orchestra.models.limits import Limits
from orchestra.models.retry import RetryPolicy
from orchestra.models.vllm_truth import PROBING
from orchestra.testing import NEVER, Answer, FaultyServer
from orchestra.traces.store import Store

PRICE = Price(1_000_000, 1_000_000_000, "test")
CAP_NANO = 2_000_000
PROBES_NANO = 2 * (3 + 1000)
RETRY = RetryPolicy(attempts=3, refusals=5, first_seconds=0.01, longest_seconds=0.02)
SAMPLED = MOTIFS["solo"](["Go."]).model_copy(update={"sampling": Sampling(temperature=0.7, max_tokens=32)})


@asynccontextmanager
async def met(plan, tmp_path, *, cap_nano=CAP_NANO, **more):
    """A run that meets a server that follows `plan`, played once."""
    with Store.open(tmp_path / "store.sqlite") as store:
        async with FaultyServer(plan) as server:
            model = open_model(f"vllm/loopback@{server.url.removesuffix('/v1')}", price=PRICE)
            settings = Settings(model="asked", retry=RETRY, **more)
            async with Runtime.opened(
                "run", store=store, settings=settings, cap_nano=cap_nano, models={"asked": model}
            ) as runtime:
                yield await runtime.play(SAMPLED, "go", key="0"), server, runtime.ledger


def cost(served):
    return sum(PRICE.cost(one.prompt_tokens, one.completion_tokens) for one in served)


async def test_a_server_that_refuses_the_very_first_question_is_asked_again_and_all_it_served_is_paid(tmp_path):
    plan = [Answer(status=429), Answer(status=500), Answer(text="all is well")]
    async with met(plan, tmp_path) as (played, server, ledger):
        assert (played.error, played.reply) == (None, "all is well")
        answered = [one for one in server.served if one.status == 200]
        assert len(answered) == 3  # two probes of how it counts, and the reply
        assert ledger.settled == cost(answered)
        assert ledger.unknown_total == PROBES_NANO  # of the one it failed at, which it may have served


async def test_a_probe_that_was_served_before_the_other_was_refused_is_not_free(tmp_path):
    async with met([Answer(text="a"), Answer(status=429), Answer(text="all is well")], tmp_path) as (_, server, ledger):
        assert cost(server.served) <= ledger.spent
        assert ledger.unknown_total == PROBES_NANO


async def test_a_cap_too_small_for_the_probes_sends_none(tmp_path):
    async with met([Answer(text="all is well")], tmp_path, cap_nano=PROBES_NANO - 1) as (played, server, ledger):
        assert isinstance(played.error, BudgetError)
        assert (server.served, ledger.spent, ledger.reserved) == ([], 0, 0)


async def test_probes_wait_for_their_turn_like_any_other_call(tmp_path):
    limits = {"*": Limits(requests_per_minute=2)}
    async with met([Answer(text="all is well")], tmp_path, limits=limits, run_seconds=1.5) as (played, server, ledger):
        assert isinstance(played.error, OutOfTime)  # the reply waits until the probes are a minute old
        assert [one.completion_tokens for one in server.served] == [1, 1]
        assert ledger.spent == cost(server.served)


async def test_each_probe_takes_a_turn_of_its_own_and_only_once(tmp_path):
    turns = []

    @asynccontextmanager
    async def turn(tokens):
        turns.append(tokens)
        yield

    async with FaultyServer([Answer(text="all is well")]) as server:
        model = open_model(f"vllm/loopback@{server.url.removesuffix('/v1')}", price=PRICE)
        assert await model.meet(turn=turn) == PROBING
        assert await model.meet(turn=turn) is None
        await model.close()
    assert turns == [4, 4]


async def test_meeting_a_server_that_says_nothing_takes_no_longer_than_a_call_may(tmp_path):
    async with met([Answer(delay_seconds=NEVER)], tmp_path, call_seconds=0.3) as (played, server, ledger):
        assert "did not say within 0.3 s" in str(played.error)
        assert (len(server.served), ledger.unknown_total) == (1, PROBES_NANO)


async def test_calls_that_meet_a_server_at_once_probe_it_once(tmp_path):
    crowd = MOTIFS["vote"]([f"You are {at}." for at in range(8)]).model_copy(update={"sampling": SAMPLED.sampling})
    with Store.open(tmp_path / "store.sqlite") as store:
        async with FaultyServer([Answer(text="all is well")]) as server:
            model = open_model(f"vllm/loopback@{server.url.removesuffix('/v1')}", price=PRICE)
            async with Runtime.opened(
                "run", store=store, settings=Settings(model="asked"), cap_nano=CAP_NANO, models={"asked": model}
            ) as runtime:
                played = await runtime.play(crowd, "go", key="0")
        assert played.error is None
        assert len(server.served) == 2 + 8
        assert runtime.ledger.spent == cost(server.served)


async def test_a_recorded_run_that_met_its_server_is_replayed_with_what_that_cost(tmp_path):
    tasks, file = (Task(id="q", input="go"),), tmp_path / "heard.jsonl"
    async with FaultyServer([Answer(text="all is well")]) as server:  # in this loop: a question that blocks would hang
        settings = Settings(model=f"vllm/loopback@{server.url.removesuffix('/v1')}", price=PRICE, record=file)
        recorded = await answer(SAMPLED, tasks, settings=settings, store=tmp_path / "store.sqlite")
        counts = server.counts()
    assert recorded.paid_nano == PRICE.cost(counts.prompt_tokens, counts.completion_tokens)
    replayed = await answer(SAMPLED, tasks, settings=replace(settings, record=None, replay=file))
    assert replayed.document() == recorded.document()
