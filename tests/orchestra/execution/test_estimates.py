"""Forecasts against what runs came to."""

import random
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import AgentGraph, AgentNode, Channel, RouterNode, Sampling, Tool, ToolNode, VoteNode
from graphs.motifs import chain, debate, layered, relay, star, vote
from graphs.validation import problems
from orchestra.execution import Runtime, Settings, run_sync
from orchestra.execution.estimates import estimate
from orchestra.execution.forecast import Actual, Forecast, Range, total
from orchestra.execution.measured import measured
from orchestra.models.protocol import Capabilities
from orchestra.testing import ScriptedModel
from orchestra.traces.store import Store

SHOUT = Tool(name="shout", call="office:shout", description="shouts")
SHORT = Sampling(max_tokens=12)
TASKS = ("What is 61 * 65?", "Name a river, and say in a few words where it ends.", "Why?")


def talker(seed=0, fewest=1, most=30):
    """Says words by chance, wants a tool now and then, and names one of a router's targets."""
    rng = random.Random(seed)

    def say(request):
        text = request.messages[-1].content
        if "Answer with one of:" in text:
            return rng.choice(text.rpartition(":")[2].split(",")).strip()
        if any("CALL shout" in message.content for message in request.messages) and rng.random() < 0.4:
            return "CALL shout: it"
        return " ".join(rng.choice(["yes", "no", "river", "sixty-one"]) for _ in range(rng.randint(fewest, most)))

    return say


def router(branches):
    nodes = [RouterNode(id="desk"), *(AgentNode(id=f"b{n}") for n in range(branches)), AgentNode(id="end")]
    pairs = [(a, b) for n in range(branches) for a, b in (("desk", f"b{n}"), (f"b{n}", "end"))]
    return AgentGraph(nodes=nodes, channels=[Channel(source=a, target=b) for a, b in pairs], output="end")


TEAMS = {
    "chain": chain(["first", "second", "third"]),
    "debate": debate(["one", "two", "three"], rounds=3),
    "relay": relay(["one", "two"], head=AgentNode(id="end", memory="transcript")),
    "layered": layered(["one", "two", "three", "four"]),
    "vote": vote(["one", "two", "three"], head=VoteNode(id="vote", extract="whole")),
    "router": router(3),
    "tools": star([ToolNode(id="shout", tool=SHOUT), AgentNode(id="caller", tools=(SHOUT,)), "plain"]),
    "memory": debate([AgentNode(id=i, memory="transcript") for i in "ab"], rounds=4),
}


async def came_to(graph, model, folder, tasks=TASKS, path=None, samples=1):
    """What a run of `graph` came to, and what was foreseen of it before."""
    graph = graph.model_copy(update={"sampling": SHORT})
    with Store.open(path) as store:
        foreseen = estimate(
            graph, tasks, lambda name: model, default_model=model.name, samples=samples, measured=measured(store)
        )
        async with Runtime.opened(
            "run", store=store, settings=Settings(model=model.name), folder=folder, models={model.name: model}
        ) as runtime:
            plays = [
                await runtime.play(graph, text, key=f"{n}/{k}", sample_index=k)
                for n, text in enumerate(tasks)
                for k in range(samples)
            ]
        await store.flush()
        tools = sum(span.name.startswith("execute_tool") for span in store.spans(runtime.run_id))
    assert not any(played.error for played in plays), [played.error for played in plays]
    actual = Actual(
        model_calls=sum(played.spent.calls for played in plays),
        tool_calls=tools,
        input_tokens=sum(played.spent.input_tokens for played in plays),
        output_tokens=sum(played.spent.output_tokens for played in plays),
        list_nano=sum(played.spent.list_nano for played in plays),
    )
    return foreseen, actual


@pytest.mark.parametrize("name", TEAMS)
@pytest.mark.parametrize("exact", [True, False], ids=["counted by its tokenizer", "bounded"])
async def test_a_run_comes_to_what_was_foreseen_with_nothing_measured(name, exact, tools):
    model = ScriptedModel(talker(1), capabilities=Capabilities(stream=True, token_ids=exact))
    foreseen, actual = await came_to(TEAMS[name], model, tools)
    assert "as foreseen" in foreseen.verdict(actual), (foreseen.against(actual), actual)
    assert foreseen.basis.startswith("between 1 token and max_tokens")


@pytest.mark.parametrize("name", ["chain", "debate", "vote", "tools", "router"])
async def test_what_was_measured_of_the_team_makes_the_forecast_narrower_and_still_right(name, tools, tmp_path):
    graph, path = TEAMS[name], tmp_path / "store.sqlite"
    capabilities = Capabilities(stream=True, token_ids=True)
    wide, _ = await came_to(graph, ScriptedModel(talker(2, 3, 5), capabilities=capabilities), tools, TASKS * 8, path)
    narrow, actual = await came_to(
        graph, ScriptedModel(talker(3, 3, 5), capabilities=capabilities), tools, TASKS * 8, path
    )
    assert "this team" in narrow.basis
    assert "as foreseen" in narrow.verdict(actual), (narrow.against(actual), actual)
    width = {f: f.output_tokens.upper - f.output_tokens.lower for f in (wide, narrow)}
    assert width[narrow] < width[wide] / 2


async def test_another_team_of_the_same_model_is_measured_by_the_model(tools, tmp_path):
    path, model = tmp_path / "store.sqlite", ScriptedModel(talker(2, 3, 5))
    await came_to(TEAMS["chain"], model, tools, TASKS * 4, path)
    foreseen, actual = await came_to(TEAMS["layered"], ScriptedModel(talker(9, 3, 5)), tools, TASKS * 4, path)
    assert "its models" in foreseen.basis
    assert foreseen.output_tokens.holds(actual.output_tokens)


@st.composite
def graphs(draw):
    """Random runnable graphs of every kind of node."""
    size = draw(st.integers(1, 6))
    ids = [f"n{number}" for number in range(size)]
    kinds = draw(st.lists(st.sampled_from(["agent", "agent", "caller", "memory", "router", "tool"]), min_size=size))
    node = {
        "agent": lambda i: AgentNode(id=i, role=f"You are {i}."),
        "caller": lambda i: AgentNode(id=i, tools=(SHOUT,)),
        "memory": lambda i: AgentNode(id=i, memory="transcript"),
        "router": lambda i: RouterNode(id=i),
        "tool": lambda i: ToolNode(id=i, tool=SHOUT),
    }
    nodes = [node[kind](i) for kind, i in zip(kinds, ids, strict=False)]
    pairs = draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), unique=True, max_size=9))
    channels = [Channel(source=ids[a], target=ids[b]) for a, b in pairs]
    return AgentGraph(nodes=nodes, channels=channels, output=ids[-1], rounds=draw(st.integers(1, 3)))


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    folder = tmp_path_factory.mktemp("office")
    (folder / "office.py").write_text("def shout(text): return text.upper()\n")
    return folder


@settings(deadline=None, max_examples=15)
@given(graphs().filter(lambda graph: not problems(graph)), st.integers(0, 9))
def test_of_any_graph_the_calls_and_tokens_are_foreseen(office, graph, seed):
    path = office / f"{secrets.token_hex(8)}.sqlite"  # nothing measured
    model = ScriptedModel(talker(seed), capabilities=Capabilities(stream=True, token_ids=True))
    try:
        foreseen, actual = run_sync(came_to(graph, model, office, TASKS[:1], path))
    except AssertionError as failed:
        if "had anything to say" in str(failed):  # a router turned away from the output
            return
        raise
    assert "as foreseen" in foreseen.verdict(actual), (foreseen.against(actual), actual)


def test_a_forecast_survives_being_written_down_and_adds_up():
    one = estimate(
        TEAMS["debate"], TASKS, lambda name: ScriptedModel(talker()), default_model="scripted/test", samples=2
    )
    assert Forecast.read(one.document()) == one
    both = total([one, one])
    assert both.model_calls == Range(120, 120, 120)  # 3 speakers in 3 rounds and a judge, 6 plays, twice
    assert both.list_nano.upper == 2 * one.list_nano.upper


def test_a_model_without_a_price_leaves_the_cash_unknown():
    model = ScriptedModel(talker(), price=None)
    foreseen = estimate(TEAMS["chain"], TASKS, lambda name: model, default_model=model.name)
    assert foreseen.list_nano is None
    assert any("unknown" in line for line in foreseen.lines())
    assert not model.requests
