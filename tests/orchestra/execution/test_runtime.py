import asyncio

import pytest

from graphs import AgentGraph, AgentNode, Channel, InvalidGraph, Tool, ToolNode
from orchestra.errors import CannotAfford, InputError, ModelError, UnknownPrice, Untrusted
from orchestra.execution.runner import runtime_episodes
from orchestra.testing import ScriptedModel

SOLO = AgentGraph(nodes=(AgentNode(id="a"),), output="a")
CHAIN = AgentGraph(
    nodes=tuple(AgentNode(id=f"n{i}") for i in range(30)),
    channels=tuple(Channel(source=f"n{i}", target=f"n{i + 1}") for i in range(29)),
    output="n29",
)


async def test_a_long_chain_runs_to_its_end(opened):
    async with opened() as (runtime, model):
        played = await runtime.play(CHAIN, "go", key="k")
    assert played.error is None
    assert len(model.requests) == 30


async def test_what_was_paid_is_in_the_ledger_and_on_the_play(opened):
    async with opened() as (runtime, _):
        plays = await asyncio.gather(*(runtime.play(SOLO, "go", key=str(i)) for i in range(20)))
        assert sum(played.paid_nano for played in plays) == runtime.ledger.spent > 0
        assert runtime.ledger.reserved == 0


async def test_a_model_that_fails_is_a_failed_episode_with_its_trace(opened):
    async with opened([ModelError("the server is on fire")]) as (runtime, _):
        played = await runtime.play(SOLO, "go", key="k")
        await runtime.store.flush()
        (episode,) = runtime_episodes(runtime.store, runtime.run_id)
    assert "on fire" in str(played.error)
    assert "on fire" in str(episode.error)


async def test_a_call_that_failed_without_usage_stays_booked(opened):
    async with opened([ModelError("cut off")]) as (runtime, _):
        played = await runtime.play(SOLO, "go", key="k")
        assert played.paid_nano == runtime.ledger.unknown_total > 0


async def test_a_retry_is_a_call_of_its_own(opened):
    replies = [ModelError("busy", retryable=True, retry_after_seconds=0), "there"]
    async with opened(replies) as (runtime, model):
        played = await runtime.play(SOLO, "go", key="k")
        assert played.reply == "there"
        assert len(model.requests) == 2
        assert runtime.ledger.unknown_total > 0
        assert runtime.ledger.settled > 0


async def test_a_cap_ends_in_a_typed_result_and_nothing_is_sent(opened):
    async with opened(cap_nano=1) as (runtime, model):
        played = await runtime.play(SOLO, "go", key="k")
    assert isinstance(played.error, CannotAfford)
    assert model.requests == []


async def test_running_out_midway_returns_what_was_said(opened):
    loop = AgentGraph(
        nodes=(AgentNode(id="a"), AgentNode(id="b")),
        channels=(Channel(source="a", target="b"), Channel(source="b", target="a", next_round=True)),
        output="a",
        rounds=50,
    )
    async with opened(cap_nano=120_000) as (runtime, model):  # a call reserves 102,700 and costs about 900
        played = await runtime.play(loop, "go", key="k")
    assert isinstance(played.error, CannotAfford)
    assert played.reply == "ok"
    assert 1 < len(model.requests) < 100


async def test_an_unknown_price_under_a_cap_is_refused_before_anything_is_sent(opened):
    async with opened(price=None, cap_nano=10**9) as (runtime, model):
        with pytest.raises(UnknownPrice, match="price of model"):
            await runtime.play(SOLO, "go", key="k")
    assert model.requests == []


async def test_a_broken_graph_is_refused_with_every_defect(opened):
    broken = AgentGraph(nodes=(AgentNode(id="a"), AgentNode(id="b")), output="c")
    async with opened() as (runtime, model):
        with pytest.raises(InvalidGraph, match="c"):
            await runtime.play(broken, "go", key="k")
    assert model.requests == []


async def test_code_outside_the_folder_is_refused_without_trust(opened):
    team = AgentGraph(nodes=(ToolNode(id="t", tool=Tool(name="t", call="os:system")),), output="t")
    async with opened() as (runtime, _):
        with pytest.raises(Untrusted):
            await runtime.play(team, "true", key="k")


async def test_a_resumed_run_pays_for_nothing_twice(opened):
    async with opened(["first"]) as (runtime, _):
        before = await runtime.play(SOLO, "go", key="k")
    async with opened([], resume=runtime.run_id) as (again, model):
        after = await again.play(SOLO, "go", key="k")
        assert again.ledger.spent == before.paid_nano
    assert (after.reply, after.paid_nano) == ("first", before.paid_nano)
    assert model.requests == []


async def test_a_call_in_flight_when_killed_is_booked_and_asked_again(opened):
    async with opened() as (runtime, _):
        reservation = runtime.ledger.child("k").reserve_now(5_000, "k/a/1/0")
        assert reservation is not None
        await runtime.journal.begin("k/a/1/0", "model", "hash", 5_000)
    async with opened(["after"], resume=runtime.run_id) as (again, model):
        assert again.ledger.unknown_total == 5_000
        played = await again.play(SOLO, "go", key="k")
    assert played.reply == "after"
    assert len(model.requests) == 1


async def test_a_cut_off_tool_that_is_not_idempotent_is_not_called_again(opened):
    once = Tool(name="shout", call="office:shout", idempotent=False)
    team = AgentGraph(
        nodes=(ToolNode(id="t", tool=once), AgentNode(id="a")), channels=(Channel(source="t", target="a"),), output="a"
    )
    async with opened() as (runtime, _):
        await runtime.journal.begin("k/t/1", "tool", "hash", 0)
    async with opened(resume=runtime.run_id) as (again, _):
        played = await again.play(team, "go", key="k")
    assert "not idempotent" in played.faults[0]


async def test_a_run_is_resumed_with_its_own_inputs_only(opened, tmp_path):
    with pytest.raises(InputError, match="no run"):
        async with opened(resume="nothing"):
            pass


async def test_the_cache_answers_what_any_run_asked_before(opened):
    async with opened(["paid"], use_cache=True, fingerprint="same weights") as (runtime, _):
        await runtime.play(SOLO, "go", key="k")
    async with opened([], use_cache=True, fingerprint="same weights") as (again, model):
        played = await again.play(SOLO, "go", key="other")
    assert played.reply == "paid"
    assert played.paid_nano == 0
    assert played.spent.borrowed_nano == played.spent.list_nano > 0
    assert model.requests == []


async def test_samples_are_not_one_another(opened):
    replies = iter(["one", "two"])
    warm = SOLO.model_copy(update={"sampling": SOLO.sampling.model_copy(update={"temperature": 0.7})})
    async with opened(lambda request: next(replies), use_cache=True) as (runtime, _):
        first = await runtime.play(warm, "go", key="0", seed=1, sample_index=0)
        second = await runtime.play(warm, "go", key="1", seed=1, sample_index=1)
    assert (first.reply, second.reply) == ("one", "two")


async def test_langsmith_sees_nothing(opened, monkeypatch):
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "secret")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://127.0.0.1:9")
    seen = []

    def answer(request):
        from langsmith.run_helpers import get_tracing_context

        seen.append(get_tracing_context()["enabled"])
        return "ok"

    async with opened(ScriptedModel(answer)) as (runtime, _):
        await runtime.play(SOLO, "go", key="k")
    assert seen == [False]


async def test_one_trace_holds_every_play_of_a_run(opened):
    async with opened() as (runtime, _):
        await asyncio.gather(*(runtime.play(CHAIN, "go", key=str(i)) for i in range(5)))
        await runtime.store.flush()
    spans = runtime.store
    with type(spans).open(spans.url) as store:
        records = store.spans(runtime.run_id)
    roots = [record for record in records if record.parent_id is None]
    assert [root.name for root in roots] == ["attempt"]
    assert len({record.trace_id for record in records}) == 1
    assert sum(record.name.startswith("chat") for record in records) == 150
