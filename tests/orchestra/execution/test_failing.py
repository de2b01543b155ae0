"""A node that fails, and money that runs out, cost nobody the work of those beside them."""

import asyncio

import pytest

from graphs import AgentGraph, AgentNode, Channel, RouterNode, Tool, ToolNode
from orchestra.errors import CannotAfford, ModelError
from orchestra.execution.runner import answer, runtime_episodes
from orchestra.ledger import Price
from orchestra.models.retry import RetryPolicy
from orchestra.testing import ScriptedModel

SIBLINGS = tuple(f"s{number}" for number in range(8))


def team(*ids: str, channels=(), output: str, rounds: int = 1) -> AgentGraph:
    nodes = tuple(AgentNode(id=node_id, role=node_id) for node_id in ids)
    pairs = tuple(Channel(source=a, target=b) for a, b in channels)
    return AgentGraph(nodes=nodes, channels=pairs, output=output, rounds=rounds)


FAN = team(*SIBLINGS, "out", channels=[(one, "out") for one in SIBLINGS], output="out")


def role_of(request) -> str:
    return request.messages[0].content


async def test_siblings_in_flight_finish_are_journalled_and_nobody_begins_after_a_failure(opened, staged):
    def answers(request):
        return ModelError("the server is on fire") if role_of(request) == "s0" else role_of(request)

    staged._replies = answers
    staged.hold(*SIBLINGS)
    async with opened(staged) as (runtime, model):
        playing = asyncio.create_task(runtime.play(FAN, "go", key="k"))
        for one in SIBLINGS:
            await model.asked_by(one)
        model.open("s0")
        await asyncio.sleep(0.01)
        for one in SIBLINGS[1:]:
            model.open(one)
        played = await playing
        assert "on fire" in str(played.error)
        assert played.spoke == frozenset(SIBLINGS[1:])
        assert "out" not in model.begun
        assert model.cancelled == 0
        await runtime.store.flush()
        done = {entry.key for entry in runtime.store.journal(runtime.run_id) if entry.event == "finish"}
    assert done == {f"k/{one}/1/0" for one in SIBLINGS[1:]}


async def test_the_first_error_is_the_one_that_is_told(opened, staged):
    staged._replies = lambda request: ModelError(f"{role_of(request)} fell over")
    staged.hold("s0", "s1")
    pair = team("s0", "s1", "out", channels=[("s0", "out"), ("s1", "out")], output="out")
    async with opened(staged) as (runtime, model):
        playing = asyncio.create_task(runtime.play(pair, "go", key="k"))
        await model.asked_by("s0")
        model.open("s1")
        await asyncio.sleep(0.01)
        model.open("s0")
        assert "s1 fell over" in str((await playing).error)


async def test_a_storm_of_429_loses_no_sibling_and_the_resumed_run_asks_only_those_it_hit(opened):
    """anthropics/claude-code 68968, agencyenterprise/draft-detective 581: one rate limit threw all the work away."""
    busy = {"s1", "s4", "s6"}

    def storm(request):
        too_many = ModelError("429: slow down", retryable=True, retry_after_seconds=0)
        return too_many if role_of(request) in busy else role_of(request)

    async with opened(storm) as (runtime, model):
        runtime._calls.retry = RetryPolicy(attempts=3, first_seconds=0)
        played = await runtime.play(FAN, "go", key="k")
        assert "429" in str(played.error)
        assert played.spoke == frozenset(SIBLINGS) - busy
        assert [role_of(request) for request in model.requests].count("s1") == 3
    async with opened(role_of, resume=runtime.run_id) as (again, model):
        played = await again.play(FAN, "go", key="k")
        assert sorted(map(role_of, model.requests)) == ["out", *sorted(busy)]
    assert (played.error, played.reply) == (None, "out")


async def test_a_run_that_failed_in_a_router_routes_when_it_is_resumed(opened, tools):
    """langchain-ai/langgraph 8834: a run resumed after a router's error silently skips the routing."""
    (tools / "office.py").write_text("def route(text): raise ValueError('no map')\n")
    routed = AgentGraph(
        nodes=(
            AgentNode(id="a", role="a"),
            RouterNode(id="r", call=Tool(name="route", call="office:route")),
            AgentNode(id="left", role="left"),
            AgentNode(id="right", role="right"),
        ),
        channels=tuple(
            Channel(source=a, target=b) for a, b in (("a", "r"), ("r", "left"), ("r", "right"), ("right", "left"))
        ),
        output="left",
    )
    async with opened(role_of) as (runtime, _):
        played = await runtime.play(routed, "go", key="k")
        assert "no map" in str(played.error)
        assert played.reply == "a"
    (tools / "office.py").write_text("def route(text): return 'right'\n")
    async with opened(role_of, resume=runtime.run_id) as (again, model):
        played = await again.play(routed, "go", key="k")
    assert played.spoke == {"a", "r", "right", "left"}
    assert [role_of(request) for request in model.requests] == ["right", "left"]


async def test_a_router_that_failed_for_a_moment_is_asked_again_although_its_code_is_the_same(opened, tools):
    (tools / "office.py").write_text(
        "import pathlib\n"
        "def route(text):\n"
        "    here = pathlib.Path(__file__).with_name('tried')\n"
        "    if not here.exists():\n"
        "        here.touch()\n"
        "        raise OSError('the map is being printed')\n"
        "    return 'left'\n"
    )
    routed = AgentGraph(
        nodes=(RouterNode(id="r", call=Tool(name="route", call="office:route")), AgentNode(id="left", role="left")),
        channels=(Channel(source="r", target="left"),),
        output="left",
    )
    async with opened(role_of) as (runtime, _):
        assert "being printed" in str((await runtime.play(routed, "go", key="k")).error)
    async with opened(role_of, resume=runtime.run_id) as (again, _):
        assert (await again.play(routed, "go", key="k")).reply == "left"


async def test_running_out_of_money_returns_the_words_of_whoever_stands_nearest_to_the_output(opened):
    """a -> b -> c -> out, and the money ends at c."""
    line = team("a", "b", "c", "out", channels=[("a", "b"), ("b", "c"), ("c", "out")], output="out")
    price = Price(0, 10**9, "test")  # a reply reserves 256,000 and costs 1,000
    async with opened(ScriptedModel(role_of, price=price), cap_nano=257_500) as (runtime, _):
        played = await runtime.play(line, "go", key="k")
        await runtime.store.flush()
        (episode,) = runtime_episodes(runtime.store, runtime.run_id)
    assert isinstance(played.error, CannotAfford)
    assert (played.reply, played.partial) == ("b", True)
    assert episode.output == "b"
    assert episode.error_type == "CannotAfford"


async def test_of_two_equally_near_the_one_that_spoke_last_counts(opened, staged):
    pair = team("s0", "s1", "out", channels=[("s0", "out"), ("s1", "out")], output="out")
    staged._replies = lambda request: ModelError("no") if role_of(request) == "out" else role_of(request)
    staged.hold("s0")
    async with opened(staged) as (runtime, model):
        playing = asyncio.create_task(runtime.play(pair, "go", key="k"))
        await model.asked_by("s1")
        await asyncio.sleep(0.01)
        model.open("s0")
        assert (await playing).reply == "s0"


async def test_an_output_that_spoke_before_the_end_speaks_for_a_play_that_failed(opened):
    loop = AgentGraph(
        nodes=(AgentNode(id="a", role="a"), AgentNode(id="b", role="b")),
        channels=(Channel(source="a", target="b"), Channel(source="b", target="a", next_round=True)),
        output="a",
        rounds=3,
    )
    replies = ["first", "heard", "second", ModelError("no more")]
    async with opened(replies) as (runtime, _):
        played = await runtime.play(loop, "go", key="k")
    assert (played.reply, played.partial) == ("second", True)


async def test_a_play_that_failed_before_anybody_spoke_has_no_words(opened):
    async with opened([ModelError("no")]) as (runtime, _):
        played = await runtime.play(team("a", output="a"), "go", key="k")
    assert (played.reply, played.partial) == (None, False)


async def test_a_reply_that_is_whole_is_not_partial(opened):
    async with opened() as (runtime, _):
        assert (await runtime.play(team("a", output="a"), "go", key="k")).partial is False


async def test_a_row_says_that_its_reply_is_partial(tmp_path):
    from orchestra.benchmarks.tasks import Task
    from orchestra.execution import Settings

    script = tmp_path / "script.txt"
    script.write_text("one\n")
    line = team("a", "out", channels=[("a", "out")], output="out")
    settings = Settings(model=f"scripted/{script}")
    answered = await answer(line, [Task(id="t", input="go")], settings=settings, store=tmp_path / "s.sqlite")
    (row,) = answered.rows
    assert (row.reply, row.partial, row.state) == ("one", True, "failed")
    assert answered.document()["episodes"][0]["partial"] is True
    assert answered.exit_code == 1


async def test_a_slow_sibling_does_not_hold_up_the_fast_branch(opened, staged):
    """langchain-ai/langgraph 6320: everything waits for the slowest node of a step."""
    ids = ("slow", "a", "b", "c", "out")
    branches = team(*ids, channels=[("a", "b"), ("b", "c"), ("c", "out"), ("slow", "out")], output="out")
    staged.hold("slow")
    async with opened(staged) as (runtime, model):
        playing = asyncio.create_task(runtime.play(branches, "go", key="k"))
        await model.asked_by("c")
        model.open("slow")
        assert (await playing).reply == "out"
        assert sorted(model.begun) == sorted(ids)


async def test_a_branch_that_is_through_before_its_sibling_begins_goes_on_all_the_same(opened, staged):
    nodes = (ToolNode(id="a", tool=Tool(name="t", call="office:shout")), AgentNode(id="b", role="b"))
    slow = (AgentNode(id="slow", role="slow"), AgentNode(id="out", role="out"))
    ways = (("a", "b"), ("b", "out"), ("slow", "out"))
    mixed = AgentGraph(nodes=nodes + slow, channels=tuple(Channel(source=a, target=b) for a, b in ways), output="out")
    async with opened(staged) as (runtime, _):
        await runtime.play(mixed, "go", key="k")
    staged.hold("slow")
    async with opened(staged, resume=runtime.run_id) as (again, model):
        # The tool's answer is in the journal, so `a` is through at once; `b` is asked something else.
        changed = mixed.model_copy(update={"nodes": (nodes[0], AgentNode(id="b", role="b", layout="{task}"), *slow)})
        playing = asyncio.create_task(again.play(changed, "go", key="k"))
        await model.asked_by("b")
        model.open("slow")
        assert (await playing).reply == "out"


async def test_a_branch_that_forks_while_a_sibling_is_slow_goes_on_in_all_its_arms(opened, staged):
    ids = ("slow", "a", "b1", "b2", "c1", "c2", "out")
    ways = [("a", "b1"), ("a", "b2"), ("b1", "c1"), ("b2", "c2"), ("c1", "out"), ("c2", "out"), ("slow", "out")]
    staged.hold("slow", "b1")
    async with opened(staged) as (runtime, model):
        playing = asyncio.create_task(runtime.play(team(*ids, channels=ways, output="out"), "go", key="k"))
        await model.asked_by("c2")
        model.open("b1")
        await model.asked_by("c1")
        model.open("slow")
        assert (await playing).reply == "out"
        assert sorted(model.begun) == sorted(ids)
        await runtime.store.flush()
        spans = runtime.store.spans(runtime.run_id)
    (workflow,) = (span for span in spans if span.name.startswith("invoke_workflow"))
    agents = [span for span in spans if span.name.startswith("invoke_agent")]
    assert {span.parent_id for span in agents} == {workflow.span_id}
    assert len(agents) == len(ids)


async def test_a_defect_of_our_own_is_raised_and_stops_everything(opened, staged):
    class Defect(BaseException):
        pass

    def answers(request):
        if role_of(request) == "b1":
            raise Defect
        return role_of(request)

    staged._replies = answers
    staged.hold("slow")
    forks = team(
        "slow",
        "a",
        "b1",
        "b2",
        "out",
        channels=[("a", "b1"), ("a", "b2"), ("b1", "out"), ("b2", "out"), ("slow", "out")],
        output="out",
    )
    async with opened(staged) as (runtime, model):
        with pytest.raises(Defect):
            await runtime.play(forks, "go", key="k")
        assert model.running == 0
