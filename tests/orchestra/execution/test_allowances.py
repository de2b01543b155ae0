"""Caps of single agents and tools, nested under their episode's and their run's."""

import pytest

from graphs import AgentGraph, AgentNode, Channel, Sampling, Tool, ToolNode
from graphs.motifs import chain, vote
from orchestra.errors import CannotAfford, InputError, UnknownPrice
from orchestra.execution.allowances import Allowances
from orchestra.execution.teams import check_allowances
from orchestra.ledger import Price
from orchestra.models.protocol import Completion, Usage

SHOUT = Tool(name="shout", call="office:shout")
CALLER = AgentGraph(nodes=(AgentNode(id="caller", tools=(SHOUT,)),), output="caller", sampling=Sampling(max_tokens=16))
FREE = Price(0, 0, "free")
A_TOKEN = Price(1_000_000_000, 1_000_000_000, "a thousand nano-USD a token")


def wants_the_tool(times):
    """Calls `shout` so often, then answers with what it heard last."""

    def say(request):
        asked = sum("CALL shout" in message.content for message in request.messages if message.role == "assistant")
        return "CALL shout: hey" if asked < times else request.messages[-1].content

    return say


async def test_an_agent_stops_at_its_own_cap_and_the_others_do_not(opened):
    team = chain(["first", "second"], sampling=Sampling(max_tokens=4))
    allowed = Allowances(agent_nano={"agent-2": 1_000})
    async with opened(cap_nano=10**9, price=A_TOKEN, settings={"allowances": allowed}) as (runtime, model):
        played = await runtime.play(team, "go", key="0")
        entries = [record.entry for record in runtime.store.ledger_entries(runtime.run_id)]
    assert isinstance(played.error, CannotAfford)
    assert "'run/0/agent-2'" in str(played.error)
    assert (played.reply, played.partial) == ("ok", True)
    assert len(model.requests) == 1
    assert {entry.ledger for entry in entries} == {"run/0"}


async def test_what_a_capped_agent_spends_counts_on_its_episode_and_its_run(opened):
    allowed = Allowances(agent_nano={"agent-1": 10**8})
    team = chain(["only"], sampling=Sampling(max_tokens=4))
    async with opened(cap_nano=10**9, price=A_TOKEN, settings={"allowances": allowed}) as (runtime, _):
        played = await runtime.play(team, "go", key="0")
        entries = [record.entry for record in runtime.store.ledger_entries(runtime.run_id)]
        assert played.paid_nano == runtime.ledger.spent > 0
    assert {entry.ledger for entry in entries} == {"run/0/agent-1"}


async def test_a_generous_cap_of_an_agent_does_not_raise_the_cap_of_the_run(opened):
    allowed = Allowances(agent_nano={"agent-1": 10**12})
    team = chain(["only"], sampling=Sampling(max_tokens=400))
    async with opened(cap_nano=100_000, price=A_TOKEN, settings={"allowances": allowed}) as (runtime, model):
        played = await runtime.play(team, "go", key="0")
    assert "'run'" in str(played.error)
    assert not model.requests


async def test_fifty_agents_at_once_are_not_each_given_the_whole_cap(opened):
    team = vote(["voter"] * 50, sampling=Sampling(max_tokens=4))
    async with opened(lambda request: "a b c", cap_nano=200_000, price=A_TOKEN) as (runtime, model):
        played = await runtime.play(team, "go", key="0")
        assert runtime.ledger.spent <= 200_000
        assert runtime.ledger.reserved == 0
    assert isinstance(played.error, CannotAfford)
    assert 0 < len(model.requests) < 50
    assert played.paid_nano == played.spent.list_nano


@pytest.mark.parametrize(("most", "answers"), [(None, 3), (0, 0), (2, 2), (9, 3)])
async def test_a_tool_is_called_as_often_as_it_may_be_and_its_agent_goes_on_without_it(opened, most, answers):
    allowed = Allowances(tool_calls={} if most is None else {"shout": most})
    async with opened(wants_the_tool(3), settings={"allowances": allowed}) as (runtime, _):
        played = await runtime.play(CALLER, "go", key="0")
    assert played.error is None
    assert played.reply == ("shout: HEY" if answers == 3 else played.reply)
    assert (("may be called" in (played.reply or "")), len(played.faults)) == (answers < 3, 3 - answers)
    assert played.spent.tool_calls == 3


async def test_the_calls_of_a_tool_are_counted_over_all_nodes_of_an_episode_and_anew_in_the_next(opened):
    nodes = (ToolNode(id="one", tool=SHOUT), ToolNode(id="two", tool=SHOUT), AgentNode(id="end"))
    channels = (Channel(source="one", target="end"), Channel(source="two", target="end"))
    team = AgentGraph(nodes=nodes, channels=channels, output="end")
    async with opened(settings={"allowances": Allowances(tool_calls={"shout": 1})}) as (runtime, _):
        plays = [await runtime.play(team, "go", key=str(number)) for number in range(2)]
    assert [len(played.faults) for played in plays] == [1, 1]


async def test_a_tool_with_a_price_is_paid_by_the_ledger(opened):
    allowed = Allowances(tool_nano={"shout": 5_000})
    async with opened(wants_the_tool(2), cap_nano=10**9, price=FREE, settings={"allowances": allowed}) as (
        runtime,
        _,
    ):
        played = await runtime.play(CALLER, "go", key="0")
        assert runtime.ledger.spent == 10_000
    assert (played.paid_nano, played.spent.list_nano) == (10_000, 10_000)


async def test_a_tool_that_cannot_be_afforded_is_not_called(opened):
    allowed = Allowances(tool_nano={"shout": 5_000})
    async with opened(wants_the_tool(2), cap_nano=6_000, price=FREE, settings={"allowances": allowed}) as (
        runtime,
        _,
    ):
        played = await runtime.play(CALLER, "go", key="0")
        assert (runtime.ledger.spent, runtime.ledger.reserved) == (5_000, 0)
    assert isinstance(played.error, CannotAfford)


async def test_a_resumed_run_does_not_pay_a_tool_again(opened):
    allowed = {"allowances": Allowances(tool_nano={"shout": 5_000}, tool_calls={"shout": 2})}
    async with opened(wants_the_tool(2), price=FREE, settings=allowed) as (runtime, _):
        first = await runtime.play(CALLER, "go", key="0")
    async with opened(wants_the_tool(2), price=FREE, settings=allowed, resume=runtime.run_id) as (
        again,
        _,
    ):
        second = await again.play(CALLER, "go", key="0")
        assert again.ledger.spent == 10_000
    assert (first.reply, first.faults) == (second.reply, second.faults)


async def test_a_free_model_is_asked_although_the_cap_is_used_up(opened):
    async with opened(price=FREE, cap_nano=0) as (runtime, _):
        assert (await runtime.play(chain(["only"]), "go", key="0")).reply == "ok"


async def test_a_model_without_a_price_is_refused_under_a_cap_and_the_message_says_how_to_state_it(opened):
    async with opened(price=None, cap_nano=10**9) as (runtime, model):
        with pytest.raises(UnknownPrice, match="--price INPUT,OUTPUT"):
            await runtime.play(chain(["only"]), "go", key="0")
    assert not model.requests


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (Allowances(agent_nano={"agnet-1": 1}), "did you mean 'agent-1'"),
        (Allowances(tool_calls={"shuot": 1}), "no tool 'shuot'"),
        (Allowances(tool_nano={"x": 1}), "there are: none"),
    ],
)
def test_a_cap_on_nobody_is_refused(allowed, message):
    with pytest.raises(InputError, match=message):
        check_allowances(allowed, [chain(["only"])])


async def test_a_server_that_ignores_max_tokens_is_booked_in_full_and_stops_the_run(opened):
    def say(request):
        return Completion(text="w", finish_reason="stop", model="m", usage=Usage(input_tokens=1, output_tokens=40))

    async with opened(say, cap_nano=10**6, price=A_TOKEN) as (runtime, model):
        played = await runtime.play(chain(["one", "two"], sampling=Sampling(max_tokens=2)), "go", key="0")
        assert (runtime.ledger.spent, runtime.ledger.overrun) == (41_000, True)
    assert "cost more than was reserved" in str(played.error)
    assert len(model.requests) == 1
