"""The source `store`: what it draws, what each filter leaves, and what it refuses."""

import asyncio
import itertools
import json
import random
import time
from pathlib import Path

import pytest

from orchestra.errors import InputError
from orchestra.plugins import load
from orchestra.traces import names
from orchestra.traces.importing import import_file
from orchestra.traces.recorded import recorded_episodes
from orchestra.traces.records import Fact, RunRecord, SpanRecord
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes

FOREIGN = Path(__file__).parents[2] / "golden" / "traces" / "foreign"
DAY = 86_400.0


class Recorder:
    """Writes runs of short episodes into a store."""

    def __init__(self, store):
        self.store, self.rng = store, random.Random(0)

    def run(self, run_id, *, command="evaluate", at=100 * DAY, ended=True):
        self.store.post(RunRecord(run_id, command, at))
        if ended:
            end = {"state": "finished", "error": None}
            self.store.post(Fact(run_id, None, names.FACT_END, end, "orchestra", at + 3600))
        return Tracer(self.store, run_id)

    def episode(self, tracer, number, *, nodes=("writer",), team="solo", score=None, error=None, **turn):
        """One episode in which each of `nodes` speaks once."""
        episode_id = f"t{number}"
        given = {names.EPISODE_ID: episode_id, names.TASK_ID: episode_id, names.AGENT_NAME: team, names.SEAT: 0}
        with tracer.span(f"invoke_workflow {team}", attributes=given) as root:
            root.content(names.TASK_INPUT, f"What is {number} + 2?")
            for node in nodes:
                with tracer.span(f"invoke_agent {node}", attributes={names.NODE: node, names.SEAT: 0}):
                    self.turn(tracer, number, **turn)
            if error is not None:
                root.fail(RuntimeError(error))
        if score is not None:
            self.store.post(Fact(tracer.run_id, root.id, names.FACT_SCORE, score, "scorer:x", 100 * DAY))

    def game(self, tracer, number, rewards, *, models=("a", "b")):
        """A game of two seats that each speak once."""
        episode_id = f"g{number}"
        with tracer.span("play dice", attributes={names.EPISODE_ID: episode_id, names.ENVIRONMENT: "dice"}):
            for seat, model in enumerate(models):
                step = {names.SEAT: seat, names.STEP: seat, names.EPISODE_ID: episode_id}
                with (
                    tracer.span(names.ENVIRONMENT_STEP, attributes=step),
                    tracer.span(f"invoke_workflow team {seat}", attributes={names.AGENT_NAME: f"team {seat}"}),
                    tracer.span("invoke_agent player", attributes={names.NODE: "player"}),
                ):
                    self.turn(tracer, number, model=model)
        for seat, reward in enumerate(rewards):
            told = {"episode_id": episode_id, "seat": seat, "reward": reward}
            self.store.post(Fact(tracer.run_id, None, names.FACT_REWARD, told, "dice", 100 * DAY))

    def turn(self, tracer, number, *, model="m", provider="p", captured=True, words=3):
        used = {names.OPERATION_NAME: "chat", names.REQUEST_MODEL: model, names.PROVIDER_NAME: provider}
        with tracer.span(f"chat {model}", attributes=used) as span:
            span.content(names.INPUT_MESSAGES, [{"role": "user", "content": f"What is {number} + 2?"}])
            span.content(names.OUTPUT_MESSAGES, [{"role": "assistant", "content": f"{number + 2}"}])
            if captured:
                reply = [self.rng.randrange(300) for _ in range(words)]
                ids = {"prompt": [1, 2, number], "reply": reply, "logprobs": [-0.5] * words}
                span.content(names.TOKEN_IDS, ids)


def chat(run_id, span_id, begun_ns, attributes, *, ended_ns=None, trace=None):
    """The span of a call, in a trace of its own."""
    return SpanRecord(
        run_id=run_id,
        trace_id=(trace or span_id) * 2,
        span_id=span_id,
        name="chat",
        start_ns=begun_ns,
        end_ns=ended_ns or begun_ns + 1,
        attributes={names.OPERATION_NAME: "chat", names.REQUEST_MODEL: "m", **attributes},
    )


@pytest.fixture
def recorder(store):
    return Recorder(store)


@pytest.fixture
def drawn(store, file):
    """What the source gives for one seed."""

    def draw(count=100, seed=0, **settings):
        store.flush_sync()
        source = recorded_episodes(store=file, **settings)
        try:
            return asyncio.run(source.episodes({}, count, seed))
        finally:
            asyncio.run(source.close())

    return draw


def ids(episodes):
    return {f"{episode.run_id}/{episode.episode_id}" for episode in episodes}


def test_it_is_installed_under_the_name_store():
    assert load("orchestra.episode_sources", "store") is recorded_episodes


def test_episodes_are_those_of_the_fold_with_their_scores_and_rewards(store, recorder, drawn):
    tracer = recorder.run("one")
    for number in range(3):
        recorder.episode(tracer, number, nodes=("writer", "critic"), score=number / 2)
    recorder.game(tracer, 7, (1.0, -1.0))
    by_id = {episode.episode_id: episode for episode in drawn()}
    assert by_id == {episode.episode_id: episode for episode in run_episodes(store, "one")}
    assert (by_id["t1"].score, by_id["g7"].seats[1].reward) == (0.5, -1.0)
    assert all(turn.trainable for episode in by_id.values() for turn in episode.turns)


def test_a_seed_draws_the_same_again_and_nothing_twice(recorder, drawn):
    for run in ("one", "two"):
        tracer = recorder.run(run)
        for number in range(12):
            recorder.episode(tracer, number)
    first = drawn(8, seed=3)
    assert len(ids(first)) == 8
    assert drawn(8, seed=3) == first
    assert ids(drawn(8, seed=4)) != ids(first)
    assert ids(drawn(8, seed=3, runs=["one"])) >= {name for name in ids(first) if name.startswith("one/")}
    assert len(drawn(100)) == 24


def test_episodes_of_a_task_come_together_where_that_is_asked_for(recorder, drawn):
    for run in range(4):
        tracer = recorder.run(f"run {run}")
        for number in range(6):
            recorder.episode(tracer, number)
    tasks = [episode.task_id for episode in drawn(8, by_task=True)]
    assert sorted(tasks.count(task) for task in set(tasks)) == [4, 4]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"runs": ["on"]}, {"one/t0", "one/t1", "one/t2"}),
        ({"runs": "one", "nodes": "critic"}, {"one/t2"}),
        ({"teams": ["pair"]}, {"one/t2"}),
        ({"models": ["big"]}, {"two/t1"}),
        ({"models": ["local/small"]}, {"two/t2"}),
        ({"models": ["local/small+critic@1"]}, {"two/t2"}),
        ({"min_reward": 0.5}, {"one/t1", "one/t2"}),
        ({"min_reward": 0.5, "max_reward": 0.5}, {"one/t1"}),
        ({"min_reward": 0.0}, {"one/t0", "one/t1", "one/t2"}),
        ({"scored": True}, {"one/t0", "one/t1", "one/t2"}),
    ],
)
def test_every_filter_leaves_what_it_says(recorder, drawn, settings, found):
    one, two = recorder.run("one"), recorder.run("two")
    for number, (nodes, team) in enumerate(
        ((("writer",), "solo"), (("writer",), "solo"), (("writer", "critic"), "pair"))
    ):
        recorder.episode(one, number, nodes=nodes, team=team, score=number / 2)
        recorder.episode(two, number, model=("m", "big", "local/small+critic@1")[number])
    assert ids(drawn(**settings)) == found


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, {"old", "new"}),
        ({"since": "2000-01-01"}, {"new"}),
        ({"until": "2000-01-01"}, {"old"}),
        ({"since": 5 * DAY, "until": 7 * DAY}, {"old"}),
    ],
)
def test_dates_are_of_the_episodes_and_not_of_their_import(store, recorder, drawn, settings, found):
    recorder.episode(recorder.run("new", at=time.time()), 1)
    store.post(RunRecord("old", "import", at=time.time()), chat("old", "b" * 16, int(6 * DAY * 1e9), {}))
    assert {episode.run_id for episode in drawn(**settings)} == found


def test_only_the_transcripts_that_were_chosen_are_given(recorder, drawn):
    tracer = recorder.run("one")
    recorder.episode(tracer, 1, nodes=("writer", "critic"))
    recorder.game(tracer, 2, (1.0, -1.0))
    (episode,) = drawn(nodes="critic")
    assert [transcript.node for transcript in episode.transcripts] == ["critic"]
    for settings in ({"min_reward": 0.0}, {"teams": "team 0"}, {"models": "a"}):
        (episode,) = drawn(**settings)
        assert [transcript.seat for transcript in episode.transcripts] == [0], settings
        assert [seat.reward for seat in episode.seats] == [1.0, -1.0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"runs": ["three"]}, "no run 'three'"),
        ({"teams": ["sola"]}, "no recorded turn is of team 'sola'; did you mean 'solo'"),
        ({"nodes": ["writer", "reviewer"]}, "no recorded turn is of node 'reviewer'; there is critic, writer"),
        ({"models": ["locl/small"]}, "did you mean 'local/small'"),
        (
            {"min_reward": 2.0},
            r"2 in 1 run, 2 with turns that can teach, 0 with a reward of at least 2 .*from 0 to 1\)",
        ),
        ({"nodes": ["critic"], "max_reward": 0.5}, "1 with turns of node 'critic', 0 with a reward of at most 0.5"),
        ({"since": "2099-01-01"}, "no run that matches holds an episode begun on or after 2099-01-01"),
        ({"min_reward": 1.0, "max_reward": 0.0}, "nothing is both at least 1 and at most 0"),
        ({"min_reward": "high"}, "min_reward: Input should be a valid number"),
        ({"since": "soon"}, "since: .*Invalid isoformat string: 'soon'"),
    ],
)
def test_what_finds_nothing_says_how_many_episodes_each_filter_left(recorder, drawn, settings, words):
    tracer = recorder.run("one", at=time.time())
    recorder.episode(tracer, 0, score=0.0, model="local/small+critic@1")
    recorder.episode(tracer, 1, nodes=("writer", "critic"), score=1.0, model="local/small+critic@1")
    with pytest.raises(InputError, match=words):
        drawn(**settings)


def test_an_empty_store_says_how_to_fill_it(store, file, recorder, drawn):
    with pytest.raises(InputError, match="holds no recorded episodes yet; play some first"):
        drawn()
    with pytest.raises(InputError, match="does not exist; nothing has been run with it yet"):
        recorded_episodes(store=file.with_name("other.sqlite"))


def test_failed_and_killed_episodes_are_kept_as_far_as_they_were_captured(store, recorder, drawn):
    tracer = recorder.run("one", ended=False)
    recorder.episode(tracer, 1, error="lost its way")
    recorder.episode(tracer, 2, error="no server", captured=False)
    recorder.episode(tracer, 3, captured=False)  # it went well: whoever trains is told that it was not captured
    recorder.episode(tracer, 4, nodes=(), error="nobody spoke")
    killed = {names.EPISODE_ID: "t5", names.NODE: "writer", names.TOKEN_IDS: store.blob({"reply": [1]})}
    store.post(*(chat("one", digit * 16, int(digit) * 10**18, killed, trace="a" * 16) for digit in "13"))
    store.post(Fact("one", None, names.FACT_START, {"episode_id": "t6"}, "orchestra", 2e9))  # while t5 was under way
    found = {episode.episode_id: (episode.error_type, len(episode.turns)) for episode in drawn()}
    assert found == {"t1": ("RuntimeError", 1), "t3": (None, 1), "t5": ("Interrupted", 2)}


def test_runs_of_trainings_hold_none_and_naming_one_says_where_its_games_are(recorder, drawn):
    recorder.run("train-1", command="train")
    recorder.episode(recorder.run("play-1", command="play"), 1)
    assert ids(drawn()) == {"play-1/t1"}
    with pytest.raises(InputError, match="'train-1' is a 'train' and holds no episodes; the games it played"):
        drawn(runs=["train"])


def test_whoever_asks_draws_from_what_was_there_when_it_began(store, recorder, drawn):
    now = time.time()
    tracer = recorder.run("before", at=now - 10)
    recorder.episode(tracer, 1)
    began = time.time()
    recorder.run("mine", command="train", at=began)
    before = drawn(run_id="mine")
    recorder.episode(tracer, 2)  # in a run that was going on
    recorder.episode(recorder.run("after", command="play", at=began + 1), 3)
    late = Fact("before", before[0].turns[0].span_id, names.FACT_SCORE, 1.0, "person", began + 60)
    store.post(late)
    assert drawn(run_id="mine") == before
    assert ids(drawn()) == {"before/t1", "before/t2", "after/t3"}


def test_a_run_that_somebody_carries_out_is_left_out_until_it_ends(file, recorder, drawn):
    recorder.episode(recorder.run("done"), 1)
    recorder.episode(recorder.run("going", ended=False), 2)
    with Store.open(file) as other, other.hold("going"):
        assert ids(drawn()) == {"done/t1"}
        with pytest.raises(InputError, match="1 more run is still going on"):
            drawn(runs=["going"])
    assert ids(drawn()) == {"done/t1", "going/t2"}


def test_what_programs_wrote_is_for_a_warm_up_alone(recorder, drawn):
    tracer = recorder.run("play-1", command="play")
    recorder.episode(tracer, 1, provider="orchestra.demonstration", captured=False)
    recorder.episode(tracer, 2)
    assert ids(drawn()) == {"play-1/t2"}
    assert ids(drawn(demonstrations=True)) == {"play-1/t1", "play-1/t2"}


def test_content_is_read_of_those_alone_that_are_drawn(store, file, recorder, monkeypatch):
    tracer = recorder.run("one")
    for number in range(20):
        recorder.episode(tracer, number, score=1.0)
    store.flush_sync()
    asked, values = [], Store.blob_values

    def counted(self, wanted):
        asked.extend(wanted)
        return values(self, wanted)

    monkeypatch.setattr(Store, "blob_values", counted)
    source = recorded_episodes(store=file, teams=["solo"], min_reward=1.0, since=DAY)
    assert (len(source), asked) == (20, [])
    (episode,) = asyncio.run(source.episodes({}, 1, 0))
    assert 1 <= len(asked) <= 4
    assert episode.turns[0].trainable
    asyncio.run(source.close())
    asyncio.run(source.close())


# Of other applications.


def imported(store, name, *, with_calls=True):
    """An application's spans as a run, with what the proxy had kept of its calls."""
    kept = json.loads((FOREIGN / f"{name}-calls.json").read_text(encoding="utf-8"))
    for value in kept["blobs"].values():
        store.blob(value)
    for answer, entry in kept["calls"].items() if with_calls else ():
        store.cache(f"call {answer}", "call", entry)
    import_file(store, FOREIGN / f"{name}.jsonl", run_id=name)
    return kept


@pytest.mark.parametrize("name", ["langgraph", "langgraph-plain", "autogen"])
def test_an_application_s_episodes_are_there_with_the_ids_a_proxy_kept(store, drawn, name):
    imported(store, name)
    (episode,) = drawn()
    assert (episode,) == run_episodes(store, name)
    assert all(turn.trainable for turn in episode.turns)


def test_agents_that_only_their_system_prompts_tell_apart_are_nodes_too(store, drawn):
    imported(store, "langgraph-plain")
    (episode,) = drawn(nodes=["agent-2"])
    assert [transcript.node for transcript in episode.transcripts] == ["agent-2"]
    with pytest.raises(InputError, match="no recorded turn is of node 'agent-3'; did you mean 'agent-2'"):
        drawn(nodes=["agent-3"])


def test_a_call_is_not_learnt_from_twice_where_the_proxy_kept_it_as_well(store, drawn):
    kept = imported(store, "langgraph")
    for answer, entry in kept["calls"].items():
        told = {**entry["attributes"], names.RESPONSE_ID: answer}
        call = chat(entry["run_id"], entry["span_id"], entry["start_ns"], told, ended_ns=entry["end_ns"])
        store.post(RunRecord(entry["run_id"], "proxy"), call)
    assert {episode.run_id for episode in drawn()} == {"langgraph"}
    proxied = drawn(runs=[next(iter(kept["calls"].values()))["run_id"]])  # without the application's own account
    assert len(proxied) == 2
    assert all(turn.trainable for episode in proxied for turn in episode.turns)


def test_a_server_s_store_is_read_as_well(postgres_url):
    with Store.open(postgres_url) as store:
        recorder = Recorder(store)
        tracer = recorder.run("one")
        for number in range(5):
            recorder.episode(tracer, number, score=number / 4)
        recorder.episode(recorder.run("going", ended=False), 9, score=1.0)
        store.flush_sync()
        with store.hold("going"):
            source = recorded_episodes(store=postgres_url, min_reward=0.5, since=DAY)
            found = asyncio.run(source.episodes({}, 10, 0))
            asyncio.run(source.close())
        assert {episode.episode_id: episode for episode in found} == {
            episode.episode_id: episode for episode in run_episodes(store, "one") if (episode.score or 0) >= 0.5
        }


@pytest.mark.slow
@pytest.mark.parametrize(("count", "runs"), [(2_000, 1), (2_000, 200), (20_000, 20)])
def test_thousands_of_episodes_are_read_in_seconds(store, file, recorder, table, count, runs):
    for run in range(runs):
        tracer = recorder.run(f"run {run}")
        for number in range(count // runs):
            recorder.episode(tracer, number, score=number % 2, words=60)
    store.flush_sync()
    seconds = [time.process_time()]  # of the processor: other work on a machine does not decide
    source = recorded_episodes(store=file)
    for drawn in (0, 64, count):
        assert len(asyncio.run(source.episodes({}, drawn, 0))) == drawn
        seconds.append(time.process_time())
    asyncio.run(source.close())
    spent = [f"{after - before:.2f} s" for before, after in itertools.pairwise(seconds)]
    title = "Recorded episodes, processor time"
    table(title, {"episodes": count, "runs": runs} | dict(zip(("open", "64 drawn", "all drawn"), spent, strict=True)))
    assert seconds[-1] - seconds[0] < count / 500
