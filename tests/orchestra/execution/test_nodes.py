import pytest

from graphs import AgentGraph, AgentNode, Channel, RouterNode, Tool, ToolNode, VoteNode
from orchestra.execution.estimates import estimate
from orchestra.models.protocol import Capabilities, Completion, ToolCall, Usage


def tool(name: str) -> Tool:
    return Tool(name=name, call=f"office:{name}")


def agent(node_id: str, **fields) -> AgentNode:
    return AgentNode(id=node_id, **fields)


def graph(*nodes, channels=(), output: str, rounds: int = 1) -> AgentGraph:
    pairs = tuple(Channel(source=a, target=b) for a, b in channels)
    return AgentGraph(nodes=nodes, channels=pairs, output=output, rounds=rounds)


def last_user(request) -> str:
    return request.messages[-1].content


async def test_an_agent_sees_the_task_and_what_a_tool_said(opened):
    team = graph(ToolNode(id="t", tool=tool("shout")), agent("a"), channels=[("t", "a")], output="a")
    async with opened(last_user) as (runtime, _):
        played = await runtime.play(team, "hello", key="k")
    assert played.reply == "hello\n\nt: HELLO"


async def test_a_silent_tool_adds_nothing_and_stops_nothing(opened):
    team = graph(ToolNode(id="t", tool=tool("silent")), agent("a"), channels=[("t", "a")], output="a")
    async with opened(last_user) as (runtime, _):
        played = await runtime.play(team, "hello", key="k")
    assert played.reply == "hello"
    assert played.spoke == {"a"}


async def test_a_tool_that_fails_is_a_fault_and_the_team_goes_on(opened):
    team = graph(ToolNode(id="t", tool=tool("boom")), agent("a"), channels=[("t", "a")], output="a")
    async with opened(last_user) as (runtime, _):
        played = await runtime.play(team, "hello", key="k")
    assert played.error is None
    assert played.reply == "hello"
    assert "no licence" in played.faults[0]


async def test_a_vote_takes_the_majority(opened):
    ballots = iter(["4", "5", "4"])
    voters = [agent(f"v{i}") for i in range(3)]
    team = graph(*voters, VoteNode(id="vote"), channels=[(v.id, "vote") for v in voters], output="vote")
    async with opened(lambda request: next(ballots)) as (runtime, _):
        played = await runtime.play(team, "2 + 2?", key="k")
    assert played.reply == "4"


async def test_a_router_function_fires_one_branch_and_the_other_is_never_asked(opened):
    router = RouterNode(id="r", call=tool("left"))
    nodes = (router, agent("left"), agent("right"), agent("end"))
    channels = [("r", "left"), ("r", "right"), ("left", "end"), ("right", "end")]
    async with opened(last_user) as (runtime, model):
        played = await runtime.play(graph(*nodes, channels=channels, output="end"), "go", key="k")
    assert played.spoke == {"r", "left", "end"}
    assert len(model.requests) == 2


async def test_a_router_that_asks_a_model_is_shown_the_targets(opened):
    nodes = (RouterNode(id="r", role="Choose."), agent("sums"), agent("words"), agent("end"))
    channels = [("r", "sums"), ("r", "words"), ("sums", "end"), ("words", "end")]
    team = graph(*nodes, channels=channels, output="end")

    async with opened(lambda request: "Take SUMS." if "Answer with one of" in last_user(request) else "4") as (
        runtime,
        _,
    ):
        played = await runtime.play(team, "2 + 2?", key="k")
    assert played.spoke == {"r", "sums", "end"}


async def test_a_router_that_names_no_target_fails_the_episode_and_says_so(opened):
    nodes = (RouterNode(id="r", call=tool("lost")), agent("left"))
    async with opened() as (runtime, _):
        played = await runtime.play(graph(*nodes, channels=[("r", "left")], output="left"), "go", key="k")
    assert played.reply is None
    assert "'the moon'" in str(played.error)


async def test_an_output_that_never_speaks_is_a_failed_episode(opened):
    nodes = (RouterNode(id="r", call=tool("nowhere")), agent("left"))
    async with opened() as (runtime, _):
        played = await runtime.play(graph(*nodes, channels=[("r", "left")], output="left"), "go", key="k")
    assert "'left', the output" in str(played.error)


async def test_tools_are_called_natively_where_the_model_can(opened):
    wish = Completion(
        text="",
        finish_reason="tool_calls",
        model="m",
        usage=Usage(input_tokens=3, output_tokens=2),
        tool_calls=(ToolCall(id="c1", name="shout", arguments='{"input": "hi"}'),),
    )

    def answer(request):
        return wish if request.messages[-1].role == "user" else f"it said {last_user(request)}"

    team = graph(agent("a", tools=(tool("shout"),)), output="a")
    async with opened(answer, capabilities=Capabilities(tools=True)) as (runtime, model):
        played = await runtime.play(team, "shout hi", key="k")
    assert played.reply == "it said HI"
    assert [t.name for t in model.requests[0].tools] == ["shout"]


async def test_a_reply_that_calls_sixty_functions_has_eight_of_them_as_was_foreseen(opened):
    """anthropics/claude-code 91845: a fan-out multiplies past what was asked for."""

    def answer(request):
        if request.messages[-1].role == "tool":
            heard = [message.content for message in request.messages if message.role == "tool"]
            return f"{heard.count('HI')} of {len(heard)}; {heard[-1]}"
        calls = tuple(ToolCall(id=f"c{at}", name="shout", arguments='{"input": "hi"}') for at in range(60))
        usage = Usage(input_tokens=3, output_tokens=2)
        return Completion(text="", finish_reason="tool_calls", model="m", usage=usage, tool_calls=calls)

    team = graph(agent("a", tools=(tool("shout"),)), output="a")
    async with opened(answer, capabilities=Capabilities(tools=True)) as (runtime, model):
        foreseen = estimate(team, ["go"], lambda name: model, default_model=model.name)
        played = await runtime.play(team, "go", key="k")
    assert played.spent.tool_calls == 8 <= foreseen.tool_calls.upper
    assert played.reply == "8 of 60; not called: at most 8 at once; ask again for what is still needed"


async def test_tools_are_called_by_text_where_the_model_cannot(opened):
    def answer(request):
        return "CALL shout: hi" if len(request.messages) == 2 else last_user(request)

    team = graph(agent("a", tools=(tool("shout"),)), output="a")
    async with opened(answer, capabilities=Capabilities(tools=False)) as (runtime, model):
        played = await runtime.play(team, "shout hi", key="k")
    assert played.reply == "shout: HI"
    assert "shout" in model.requests[0].messages[0].content
    assert model.requests[0].tools == ()


@pytest.mark.parametrize(("memory", "turns"), [("transcript", [1, 3]), ("none", [1, 1])])
async def test_memory_is_the_own_transcript_across_rounds(opened, memory, turns):
    team = AgentGraph(
        nodes=(agent("a", memory=memory), agent("b")),
        channels=(Channel(source="a", target="b"), Channel(source="b", target="a", next_round=True)),
        output="b",
        rounds=2,
    )
    async with opened(lambda request: "said") as (runtime, model):
        await runtime.play(team, "talk", key="k")
    seen = [len(request.messages) for request in model.requests]
    assert seen[0::2] == turns
