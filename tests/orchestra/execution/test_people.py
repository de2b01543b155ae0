"""A node may ask a person: the run pauses, and goes on with the answer."""

import pytest

from graphs import PERSON, AgentGraph, AgentNode, Channel, RouterNode, Tool, ToolNode
from orchestra.benchmarks.tasks import Task
from orchestra.errors import InputError, Paused
from orchestra.evaluation.sweep import evaluate
from orchestra.execution import Settings, answer, run
from orchestra.execution.people import open_questions
from orchestra.execution.runner import runtime_episodes
from orchestra.models.protocol import Capabilities, Completion, ToolCall, Usage
from orchestra.traces import names
from orchestra.traces.store import Store
from orchestra.traces.summary import summary

BOSS = Tool(name="boss", call=PERSON, description="Ask the boss.")
ECHO = Settings(model="scripted/echo")


def graph(*nodes, channels=(), output: str, rounds: int = 1) -> AgentGraph:
    ways = tuple(one if isinstance(one, Channel) else Channel(source=one[0], target=one[1]) for one in channels)
    return AgentGraph(nodes=nodes, channels=ways, output=output, rounds=rounds)


CHECKED = graph(
    AgentNode(id="a", role="a"),
    ToolNode(id="boss", tool=BOSS),
    AgentNode(id="out", role="out"),
    channels=[("a", "boss"), ("boss", "out")],
    output="out",
)


def said(request) -> str:
    return request.messages[-1].content


async def test_a_person_in_a_team_is_asked_what_the_node_heard_and_answers_like_a_tool(opened):
    async with opened(lambda request: "draft") as (runtime, _):
        played = await runtime.play(CHECKED, "write", key="k")
        assert isinstance(played.error, Paused)
        assert (played.error.question, played.reply) == ("a: draft", None)
        (question,) = open_questions(runtime.store, runtime.run_id)
        assert (question.text, question.node, question.episode_id) == ("a: draft", "boss", "k")
        await runtime.store.flush()
        (episode,) = runtime_episodes(runtime.store, runtime.run_id)
        spans = {span.name: span for span in runtime.store.spans(runtime.run_id)}
    assert episode.error_type == "Paused"
    assert "waits for a person" in episode.error
    assert spans["execute_tool boss"].attributes[names.ERROR_TYPE] == "Paused"
    async with opened(said, resume=runtime.run_id, answers=["looks good"]) as (again, model):
        assert summary(again.store, again.store.run(again.run_id)).attempts == 2
        played = await again.play(CHECKED, "write", key="k")
    assert (played.error, played.reply) == (None, "write\n\nboss: looks good")
    assert [request.messages[0].content for request in model.requests] == ["out"]
    async with opened() as (other, _):
        assert summary(other.store, other.store.run(runtime.run_id)).state == "finished"


async def test_the_question_is_in_the_journal_begun_and_not_finished(opened):
    async with opened() as (runtime, _):
        await runtime.play(CHECKED, "write", key="k")
        entries = [entry for entry in runtime.store.journal(runtime.run_id) if entry.kind == "person"]
        assert [(entry.event, entry.key) for entry in entries] == [("begin", "k/boss/1")]
    async with opened() as (other, _):
        assert summary(other.store, other.store.run(runtime.run_id)).state == "paused"


async def test_the_other_branches_go_on_as_far_as_they_can(opened, staged):
    ids = ("b", "c", "out")
    team = graph(
        ToolNode(id="boss", tool=BOSS),
        *(AgentNode(id=one, role=one) for one in ids),
        channels=[("b", "c"), ("c", "out"), ("boss", "out")],
        output="out",
    )
    async with opened(staged) as (runtime, model):
        played = await runtime.play(team, "go", key="k")
    assert isinstance(played.error, Paused)
    assert model.begun == ["b", "c"]
    async with opened(said, resume=runtime.run_id, answers=["yes"]) as (again, model):
        assert (await again.play(team, "go", key="k")).reply == "go\n\nc: c\nboss: yes"
    assert len(model.requests) == 1


async def test_an_agent_may_ask_a_person_and_gets_the_answer_as_its_tool_s(opened):
    wish = Completion(
        text="",
        finish_reason="tool_calls",
        model="m",
        usage=Usage(input_tokens=3, output_tokens=2),
        tool_calls=(ToolCall(id="c1", name="boss", arguments='{"input": "May I?"}'),),
    )

    def answers(request):
        return wish if request.messages[-1].role == "user" else f"the boss said {said(request)}"

    team = graph(AgentNode(id="a", tools=(BOSS,)), output="a")
    able = {"capabilities": Capabilities(tools=True)}
    async with opened(answers, **able) as (runtime, _):
        played = await runtime.play(team, "go", key="k")
    assert played.error.question == "May I?"
    async with opened(answers, resume=runtime.run_id, answers=["no"], **able) as (again, model):
        assert (await again.play(team, "go", key="k")).reply == "the boss said no"
    assert len(model.requests) == 1


ROUTED = graph(
    RouterNode(id="r", call=BOSS),
    AgentNode(id="left", role="left"),
    AgentNode(id="right", role="right"),
    AgentNode(id="out", role="out"),
    channels=[("r", "left"), ("r", "right"), ("left", "out"), ("right", "out")],
    output="out",
)


async def test_a_person_may_be_the_router_and_the_branch_not_chosen_is_never_asked(opened):
    async with opened() as (runtime, _):
        await runtime.play(ROUTED, "go", key="k")
    async with opened(lambda r: r.messages[0].content, resume=runtime.run_id, answers=["right"]) as (again, model):
        played = await again.play(ROUTED, "go", key="k")
    assert played.spoke == {"r", "right", "out"}
    assert len(model.requests) == 2


async def test_an_answer_that_names_no_choice_is_refused_before_anything_is_spent(opened):
    async with opened() as (runtime, _):
        await runtime.play(ROUTED, "go", key="k")
    with pytest.raises(InputError, match="left, right"):
        async with opened(resume=runtime.run_id, answers=["straight on"]):
            pytest.fail("it went on")
    async with opened(resume=runtime.run_id, answers=["left"]) as (again, _):
        assert (await again.play(ROUTED, "go", key="k")).error is None


async def test_a_person_after_a_router_is_asked_on_the_branch_that_was_chosen(opened):
    team = graph(
        RouterNode(id="r", call=Tool(name="left", call="office:left")),
        ToolNode(id="left", tool=BOSS),
        AgentNode(id="right"),
        AgentNode(id="out", role="out"),
        channels=[("r", "left"), ("r", "right"), ("left", "out"), ("right", "out")],
        output="out",
    )
    async with opened() as (runtime, _):
        assert isinstance((await runtime.play(team, "go", key="k")).error, Paused)
    async with opened(said, resume=runtime.run_id, answers=["here"]) as (again, model):
        assert (await again.play(team, "go", key="k")).reply == "go\n\nleft: here"
    assert len(model.requests) == 1


async def test_a_person_in_a_cycle_is_asked_once_a_round(opened):
    team = graph(
        AgentNode(id="a", role="a"),
        ToolNode(id="boss", tool=BOSS),
        channels=[("a", "boss"), Channel(source="boss", target="a", next_round=True)],
        output="boss",
        rounds=2,
    )
    async with opened(said) as (runtime, _):
        await runtime.play(team, "go", key="k")
        assert [question.key for question in open_questions(runtime.store, runtime.run_id)] == ["k/boss/1"]
    async with opened(said, resume=runtime.run_id, answers=["again"]) as (again, model):
        assert isinstance((await again.play(team, "go", key="k")).error, Paused)
        (question,) = open_questions(again.store, again.run_id)
        assert (question.key, question.text) == ("k/boss/2", "a: go\n\nboss: again")
        assert len(model.requests) == 1
    async with opened([], resume=runtime.run_id, answers=["done"]) as (last, _):
        assert (await last.play(team, "go", key="k")).reply == "done"


ASKING = graph(
    RouterNode(id="r", call=Tool(name="hard", call="office:hard")),
    ToolNode(id="boss", tool=BOSS),
    AgentNode(id="out", role="out"),
    channels=[("r", "boss"), ("r", "out"), ("boss", "out")],
    output="out",
)
TASKS = [Task(id=f"t{number}", input=text) for number, text in enumerate(["easy", "hard one", "easy", "hard two"])]


@pytest.fixture
def sorting(tools):
    (tools / "office.py").write_text("def hard(text): return 'boss' if text.startswith('hard') else 'out'\n")
    return tools


async def test_of_several_tasks_two_may_pause_and_the_others_are_answered(tmp_path, sorting):
    given = {"settings": ECHO, "store": tmp_path / "s.sqlite", "folder": sorting}
    paused = await answer(ASKING, TASKS, **given)
    assert paused.exit_code == 4
    assert [row.state for row in paused.rows] == ["finished", "paused", "finished", "paused"]
    assert sorted(question.task_id for question in paused.questions) == ["t1", "t3"]
    replies = {"t1": "one", "t3": "two"}
    answers = [replies[question.task_id] for question in paused.questions]
    done = await answer(ASKING, TASKS, **given, resume=paused.run_id, answers=answers)
    assert done.exit_code == 0
    assert [row.reply.splitlines()[-1] for row in done.rows] == ["r: easy", "boss: one", "r: easy", "boss: two"]
    with Store.open(tmp_path / "s.sqlite") as store:
        journal = [entry for entry in store.journal(paused.run_id) if entry.event == "begin"]
    assert len({entry.key for entry in journal}) == len(journal)  # nothing was asked twice


@pytest.mark.parametrize("answers", [["one"], ["one", "two", "three"]])
async def test_too_few_or_too_many_answers_are_refused_with_the_questions(tmp_path, sorting, answers):
    given = {"settings": ECHO, "store": tmp_path / "s.sqlite", "folder": sorting}
    paused = await answer(ASKING, TASKS, **given)
    with pytest.raises(InputError) as caught:
        await answer(ASKING, TASKS, **given, resume=paused.run_id, answers=answers)
    for part in ("waits for 2 answers", "1. t", "2. t", "hard one", "hard two"):
        assert part in str(caught.value)


async def test_answers_nobody_asked_for_are_refused(opened):
    async with opened() as (runtime, _):
        pass
    with pytest.raises(InputError, match="leave --answer out"):
        async with opened(resume=runtime.run_id, answers=["yes"]):
            pytest.fail("it went on")


async def test_resumed_without_answers_it_lists_the_questions_and_spends_nothing(tmp_path, sorting):
    given = {"settings": ECHO, "store": tmp_path / "s.sqlite", "folder": sorting}
    paused = await answer(ASKING, TASKS, **given)
    again = await answer(ASKING, TASKS, **given, resume=paused.run_id)
    assert (again.exit_code, again.rows, again.paid_nano) == (4, (), paused.paid_nano)
    assert [question.key for question in again.questions] == [question.key for question in paused.questions]
    with Store.open(tmp_path / "s.sqlite") as store:
        run = store.run(paused.run_id)
        assert run.attempts == 1
        assert summary(store, run).state == "paused"


async def test_a_single_text_pauses_and_goes_on_from_python(tmp_path):
    given = {"settings": ECHO, "store": tmp_path / "s.sqlite"}
    paused = await run(CHECKED, "write", **given)
    assert (paused.error_type, paused.output) == ("Paused", None)
    still = await run(CHECKED, "write", **given, resume=paused.run_id)
    assert still.error_type == "Paused"
    done = await run(CHECKED, "write", **given, resume=paused.run_id, answers=["fine"])
    assert (done.error, done.output) == (None, "write\n\nboss: fine")
    assert done.run_id == paused.run_id


async def test_a_paused_task_is_not_scored(tmp_path):
    given = {"settings": ECHO, "store": tmp_path / "s.sqlite"}
    task = Task(id="t", input="write", target="x")
    paused = await answer(CHECKED, [task], **given)
    assert paused.rows[0].score is None
    with Store.open(tmp_path / "s.sqlite") as store:
        assert [fact for fact in store.facts(paused.run_id) if fact.name == names.FACT_SCORE] == []


async def test_an_evaluation_refuses_a_team_that_asks_a_person(tmp_path):
    task = Task(id="t", input="write", target="x")
    with pytest.raises(InputError, match="'boss' of team 'team' asks a person"):
        await evaluate([CHECKED], [task], settings=ECHO, store=tmp_path / "s.sqlite")


async def test_a_recorded_run_with_a_person_in_it_is_replayed_without_the_person(tmp_path):
    task = [Task(id="t", input="write")]
    given = {"store": tmp_path / "s.sqlite"}
    paused = await answer(CHECKED, task, settings=ECHO, **given)
    recording = tmp_path / "recording.jsonl"
    recorded = Settings(model=ECHO.model, record=recording)
    done = await answer(CHECKED, task, settings=recorded, **given, resume=paused.run_id, answers=["fine"])
    again = await answer(CHECKED, task, settings=Settings(model=ECHO.model, replay=recording))
    assert again.rows[0].reply == done.rows[0].reply == "write\n\nboss: fine"


async def test_a_replay_of_a_run_that_paused_pauses(tmp_path):
    task = [Task(id="t", input="write")]
    recording = tmp_path / "recording.jsonl"
    recorded = Settings(model=ECHO.model, record=recording)
    paused = await answer(CHECKED, task, settings=recorded, store=tmp_path / "s.sqlite")
    again = await answer(CHECKED, task, settings=Settings(model=ECHO.model, replay=recording))
    assert (again.exit_code, again.rows[0].error) == (paused.exit_code, paused.rows[0].error)
    assert again.exit_code == 4
