"""Learning from what was recorded: own runs, mixed stores, other applications, and beside live play."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from graphs import AgentNode, Sampling
from graphs.motifs import chain
from orchestra.cli import execute
from orchestra.errors import InputError
from orchestra.execution import Runtime, Settings
from orchestra.testing import ScriptedModel
from orchestra.traces import names
from orchestra.traces.importing import import_file
from orchestra.traces.recorded import recorded_episodes
from orchestra.traces.store import Fact, Store
from orchestra.traces.summary import summary
from training.adapters.files import read as read_adapter
from training.recipes import Source
from training.samples import NoReward, NotTrainable, Trained, strands
from training.trainers.gathering import Mixed, opened
from training.trainers.job import train
from training.trainers.study import SILENT
from training.trainers.tokens import OtherTokenizer

FOREIGN = Path(__file__).parents[2] / "golden" / "traces" / "foreign"
TEAM = chain([AgentNode(id="writer"), AgentNode(id="critic")]).model_copy(
    update={"sampling": Sampling(temperature=1.0, max_tokens=4)}
)
QUESTIONS = ("Say one of red, blue, green.", "Again.")


async def recorded(store, settings, *, scored=True, models=None, name="pair"):
    """A run of two questions, each played six times by a team of two; its id."""
    team = TEAM.model_copy(update={"name": name})
    async with Runtime.opened("evaluate", store=store, settings=settings, models=models) as runtime:
        for number in range(12):
            task = f"task {number % 2}"
            played = await runtime.play(team, QUESTIONS[number % 2], key=f"{number}", task_id=task, seed=number)
            assert played.error is None
            if scored:
                # Each another, so that whichever are drawn there is something to learn.
                fact = Fact(runtime.run_id, played.span_id, names.FACT_SCORE, float(number), "scorer:in order")
                store.post(fact)
    return runtime.run_id


@pytest.fixture(scope="module")
def traces(tmp_path_factory, words_base):
    """A store with a scored run of the small model, one that nobody scored, and one of a model that gives no ids."""
    folder = tmp_path_factory.mktemp("traces")
    settings = Settings(model=f"local/{words_base}", engine={"dtype": "float32", "threads": 1})

    async def record():
        with Store.open(folder / "s.db") as store:
            runs = {"scored": await recorded(store, settings)}
            runs["silent"] = await recorded(store, settings, scored=False, name="silent pair")
            scripted = {"scripted/api": ScriptedModel(lambda request: "red", name="scripted/api")}
            api = Settings(model="scripted/api")
            runs["api"] = await recorded(store, api, models=scripted, name="api pair")
        return runs

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRA_CACHE", str(folder / "cache"))
        return folder / "s.db", asyncio.run(record())


@pytest.fixture
def trained(traces, recipe_of, tmp_path):
    """Trains from the store, by some of its runs or settings of the source."""
    file, runs = traces

    async def train_it(*chosen, recipe=None, settings=(), **more):
        kept = {"runs": [runs[name] for name in chosen], **dict(settings)}
        return await train(recipe or recipe_of(**more), store=file, folder=tmp_path, traces=kept)

    return train_it


async def test_recorded_episodes_teach_an_adapter_whose_card_names_them(trained, traces):
    done = await trained("scored")
    saved = done.adapters["player"]
    assert any(tensor.abs().max() > 0 for name, tensor in saved.weights.tensors.items() if "lora_B" in name)
    _, card = read_adapter(saved.folder)
    assert 8 <= card["episode_count"] <= 12  # two steps of eight, of twelve there are
    assert {name.rpartition("/")[0] for name in card["episodes"]} == {traces[1]["scored"]}
    assert len(set(card["episodes"])) == len(card["episodes"]) == card["episode_count"]
    assert done.curve[0]["mismatch"] < 1e-4  # the base sampled them, and the first step is the base's
    assert done.curve[0]["strands"] == 2 * done.curve[0]["episodes"] == 16  # both nodes: every turn of a model
    assert done.curve[0]["adapters"] == {}  # nothing is published
    assert card["value"] is None  # others earned what was recorded


@pytest.mark.parametrize("loss", ["advantage-weighted", "clipped", "imitation", "rejection-sampling"])
async def test_every_loss_learns_from_a_store(trained, loss):
    done = await trained("scored", loss={"name": loss}, credit={"estimator": "rloo"})
    assert all(line["gradient norm"] > 0 for line in done.curve)
    assert "steps without any advantage" not in done.skipped  # tasks are drawn whole, so there is somebody to compare


async def test_a_loss_that_asks_for_no_credit_learns_from_what_nobody_scored(trained):
    with pytest.raises(
        NoReward, match=r"has no reward for seat 0 and no score .*orchestra evaluate.*--scored.*imitation"
    ):
        await trained("silent")
    with pytest.raises(InputError, match="12 in 1 run, 12 with turns that can teach, 0 with a reward; loosen"):
        await trained("silent", settings={"scored": True})
    done = await trained("silent", loss={"name": "imitation"})
    assert done.curve[-1]["gradient norm"] > 0


async def test_turns_that_were_not_captured_are_refused_or_counted(trained):
    with pytest.raises(NotTrainable, match=r"was not captured with token ids .*skip such turns"):
        await trained("scored", "api", steps={"episodes": 24})
    done = await trained("scored", "api", steps={"episodes": 24, "count": 1, "without_ids": "skip"})
    assert done.skipped == {"without token ids": 24, SILENT: 12}
    assert done.curve[0]["strands"] == 24


async def test_of_several_agents_each_says_what_it_learns_from(trained, recipe_of):
    with pytest.raises(InputError, match=r"agents alice, bob of 2: .*\[agents.alice.learns\] nodes, .*adapters = "):
        await trained("scored", agents=("alice", "bob"))
    recipe = recipe_of(agents=("alice", "bob"))
    agents = {
        name: agent.model_copy(update={"learns": agent.learns.model_copy(update={"nodes": (node,)})})
        for (name, agent), node in zip(recipe.agents.items(), ("writer", "critic"), strict=True)
    }
    done = await trained("scored", recipe=recipe.model_copy(update={"agents": agents}))
    versions = {saved.weights.version for saved in done.adapters.values()}
    assert len(versions) == 2
    assert done.curve[0]["strands"] == 16


async def test_what_one_agent_says_is_kept_and_silence_in_a_recipe_means_its_own_adapter(
    traces, trained, recipe_of, tmp_path
):
    done = await trained("scored", learns={"nodes": ["critic"]})
    assert done.curve[0]["strands"] == 8
    source = recorded_episodes(store=traces[0], runs=[traces[1]["scored"]])
    with pytest.raises(InputError, match="or every = true for every turn of a model"):
        await train(recipe_of(publish={"name": ""}), store=tmp_path / "s.db", folder=tmp_path, source=source)
    told = recipe_of(publish={"name": ""}, learns={"every": True})
    source = recorded_episodes(store=traces[0], runs=[traces[1]["scored"]])
    done = await train(told, store=tmp_path / "s.db", folder=tmp_path, source=source)
    assert done.curve[0]["strands"] == 16


async def test_ids_of_another_tokenizer_are_refused(traces, trained, recipe_of, tmp_path):
    class Shifted:
        """Episodes whose ids mean something else."""

        def __init__(self, by):
            self.by, self.inner = by, recorded_episodes(store=traces[0], runs=[traces[1]["scored"]])

        async def episodes(self, adapters, count, seed):
            return [
                episode.model_copy(update={"transcripts": tuple(map(self._shifted, episode.transcripts))})
                for episode in await self.inner.episodes(adapters, count, seed)
            ]

        def _shifted(self, transcript):
            turns = (
                turn.model_copy(
                    update={
                        "prompt_token_ids": tuple(self.by(one) for one in turn.prompt_token_ids),
                        "reply_token_ids": tuple(self.by(one) for one in turn.reply_token_ids),
                    }
                )
                for turn in transcript.turns
            )
            return transcript.model_copy(update={"turns": tuple(turns)})

        async def close(self):
            await self.inner.close()

    recipe = recipe_of(publish={"name": ""}, learns={"every": True})
    for by, words in (
        (lambda one: one + 1000, "has token id 1[0-9]+ and"),
        (lambda one: 5, "0 are among theirs; train"),
    ):
        with pytest.raises(OtherTokenizer, match=words):
            await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=Shifted(by))


class Stopped(Exception):
    """In place of a kill."""


async def test_a_run_that_is_resumed_draws_the_same_whatever_was_recorded_meanwhile(traces, recipe_of, tmp_path):
    file = shutil.copytree(traces[0].parent, tmp_path / "copy") / traces[0].name
    chosen = {"store": file, "folder": tmp_path, "traces": {"teams": ["pair"]}}
    recipe = recipe_of(steps={"count": 3, "episodes": 4})
    begun = []

    def stop(figures):
        raise Stopped

    with pytest.raises(Stopped):
        await train(recipe, on_run=begun.append, teller=stop, **chosen)
    whole = await train(recipe, **chosen)
    with Store.open(file) as store:
        models = {"scripted/api": ScriptedModel(lambda request: "red", name="scripted/api")}
        await recorded(store, Settings(model="scripted/api"), models=models)
    again = await train(recipe, resume=begun[0], **chosen)
    assert again.adapters["player"].weights.version == whole.adapters["player"].weights.version
    assert [line["loss"] for line in again.curve] == [line["loss"] for line in whole.curve]


async def test_recorded_episodes_are_learnt_from_beside_live_play(traces, words, recipe_of, tmp_path):
    game = words({"player": "green"})
    store = recorded_episodes(store=traces[0], runs=[traces[1]["scored"]])
    recipe = recipe_of(steps={"count": 2, "episodes": 12}, learns={"every": True})
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=Mixed([(game, 2.0), (store, 1.0)]))
    assert [count for _, count, _ in game.asked] == [8, 8]
    assert [line["episodes"] for line in done.curve] == [12, 12]
    assert set(done.curve[0]["reward"]) == {"task/0", "words/0"}
    assert game.asked[1][0]["player"].startswith("player@")  # live play goes on with what both have taught


async def test_a_recipe_lists_both_and_each_gives_its_share(traces, recipe_of, tmp_path, monkeypatch):
    (tmp_path / "live_play_double.py").write_text(
        "class Live:\n"
        "    async def episodes(self, adapters, count, seed):\n"
        "        return ['live'] * count\n\n"
        "    async def close(self):\n"
        "        pass\n\n\n"
        "def live():\n"
        "    return Live()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sources = (
        Source(name="live_play_double:live", share=3.0),
        Source(name="store", settings={"teams": ["pair"]}, share=1.0),
    )
    both = opened(sources, {"store": traces[0], "run_id": "not begun", "by_task": True, "agents": ("player",)})
    found = await both.episodes({}, 8, 1)
    await both.close()
    assert found[:6] == ["live"] * 6
    assert [episode.seats[0].team for episode in found[6:]] == ["pair"] * 2


@pytest.mark.parametrize("name", ["langgraph", "langgraph-plain", "autogen"])
async def test_episodes_of_other_applications_are_strands_of_the_very_ids_a_proxy_kept(name, tmp_path):
    kept = json.loads((FOREIGN / f"{name}-calls.json").read_text(encoding="utf-8"))
    with Store.open(tmp_path / "s.db") as store:
        for value in kept["blobs"].values():
            store.blob(value)
        for answer, entry in kept["calls"].items():
            store.cache(f"call {answer}", "call", entry)
        import_file(store, FOREIGN / f"{name}.jsonl")
    source = recorded_episodes(store=tmp_path / "s.db")
    episodes = await source.episodes({}, 8, 0)
    await source.close()
    found = strands(episodes, [Trained(agent="player")])
    ids = [kept["blobs"][entry["attributes"][names.TOKEN_IDS]] for entry in kept["calls"].values()]
    assert sum(strand.trained for strand in found.strands) == sum(len(one["reply"]) for one in ids)
    assert found.skipped == {}


# The command.


@pytest.fixture
def command(traces, recipe_of, tmp_path, capsys):
    """Runs `orchestra train` on the store; its exit code and what it said."""
    recipe = tmp_path / "words.toml"
    base = recipe_of().base.model
    recipe.write_text(
        f'name = "words"\n[base]\nmodel = "{base}"\n[agents.player]\nrank = 4\n'
        "[steps]\ncount = 1\nepisodes = 8\nrow_tokens = 512\n"
    )

    def run(*words, store=traces[0]):
        code = execute(["train", str(recipe), "--store", str(store), "--out", str(tmp_path), *words])
        return code, capsys.readouterr()

    return run


def test_the_command_learns_from_the_runs_it_is_given(command, traces):
    code, said = command("--from-traces", "--run", traces[1]["scored"], "--node", "critic", "--json")
    assert code == 0, said.err
    done = json.loads(said.out)
    assert ending_of(traces[0], done["run_id"]) == ("finished", None)
    assert (done["curve"][0]["episodes"], done["curve"][0]["strands"]) == (8, 8)
    assert done["adapters"]["player"]["served"].startswith("player@")


def ending_of(file, run_id=None):
    """State and error of a run, else of the latest."""
    with Store.open(file, read_only=True) as store:
        one = summary(store, store.run(run_id) if run_id else store.runs(1)[0])
    return one.state, one.error


def test_what_was_exported_and_imported_teaches_the_same(command, traces, tmp_path):
    run_id, file, other = traces[1]["scored"], tmp_path / "run.jsonl", tmp_path / "other.db"
    assert (
        execute(["traces", "export", run_id, "--format", "jsonl", "--out", str(file), "--store", str(traces[0])]) == 0
    )
    assert execute(["traces", "import", str(file), "--store", str(other)]) == 0
    versions = []
    for store in (traces[0], other):
        code, said = command("--from-traces", "--run", run_id, "--json", store=store)
        assert code == 0, said.err
        versions.append(json.loads(said.out)["adapters"]["player"]["served"])
    assert versions[0] == versions[1]


def proxied(store, name, base):
    """Lets `store` know what a proxy would have kept of an application's calls, had they been of `base`."""
    kept = json.loads((FOREIGN / f"{name}-calls.json").read_text(encoding="utf-8"))
    for value in kept["blobs"].values():
        store.blob(value)
    for answer, entry in kept["calls"].items():
        said = [
            [token for text in texts(kept["blobs"][entry["attributes"][which]]) for token in base.reply_ids(text)[:-1]]
            for which in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES)
        ]
        ids = {"prompt": said[0], "reply": said[1], "logprobs": [-3.0] * len(said[1])}
        told = entry["attributes"] | {names.TOKEN_IDS: store.blob(ids)}
        store.cache(f"call {answer}", "call", entry | {"attributes": told})


def texts(messages):
    """What was said in words, or else to a tool."""
    return [part.get("content") or part.get("arguments") or "" for one in messages for part in one["parts"]]


def test_imported_traces_of_applications_are_trained_on_where_a_proxy_kept_their_ids(
    command, base_of, tmp_path, capsys
):
    file, runs = tmp_path / "applications.db", {}
    with Store.open(file) as store:
        for name in ("langgraph", "autogen"):
            proxied(store, name, base_of)
    for name in ("langgraph", "autogen", "langgraph-plain"):
        assert execute(["traces", "import", str(FOREIGN / f"{name}.jsonl"), "--store", str(file), "--json"]) == 0
        (runs[name],) = json.loads(capsys.readouterr().out)["run_ids"]
    with Store.open(file) as store:
        for score, run_id in enumerate(runs.values()):
            store.post(Fact(run_id, None, names.FACT_SCORE, float(score), "person"))
    code, said = command("--from-traces", store=file)
    assert code == 2
    assert "turn 0 of node 'agent', seat 0" in " ".join(said.err.split())
    assert "was not captured with token ids" in " ".join(said.err.split())
    code, said = command("--from-traces", "--set", "steps.without_ids=skip", "--json", store=file)
    assert code == 0, said.err
    done = json.loads(said.out)
    assert done["skipped"] == {"without token ids": 2, SILENT: 1}
    (line,) = done["curve"]
    assert (line["episodes"], line["strands"]) == (3, 4)
    assert line["gradient norm"] > 0
    _, card = read_adapter(Path(done["adapters"]["player"]["folder"]))
    assert {name.partition("/")[0] for name in card["episodes"]} == {runs["langgraph"], runs["autogen"]}
    code, said = command(
        "--from-traces", "--run", runs["langgraph-plain"], "--set", "steps.without_ids=skip", store=file
    )
    assert code == 2
    assert "none of 1 episodes holds a turn that player would learn from (2 without token ids)" in " ".join(
        said.err.split()
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from-traces", "--run", "nowhere"], "no run 'nowhere'"),
        (["--from-traces", "--team", "pear"], "did you mean 'pair'"),
        (["--from-traces", "--node", "critik"], "did you mean 'critic'"),
        (["--from-traces", "--model", "scripted/apy"], "did you mean 'scripted/api'"),
        (["--from-traces", "--min-reward", "70"], "0 with a reward of at least 70 (the others' are from 0 to 11)"),
        (["--from-traces", "--since", "2099-01-01"], "begun on or after 2099-01-01"),
        (["--from-traces", "--until", "yesterday"], "--until 'yesterday' is no date"),
        (["--from-traces", "--set", "agents.other.rank=4"], "[agents.player.learns]"),
        (["--from-traces", "--team", "api pair"], "was not captured with token ids"),
        (["--from-traces", "--team", "silent pair"], "has no reward for seat 0"),
        (["--node", "critic"], "--node chooses among recorded episodes; add --from-traces"),
        (["--min-reward", "0"], "--min-reward chooses among recorded episodes; add --from-traces"),
    ],
)
def test_bad_input_is_told_and_nothing_is_trained(command, words, message):
    code, said = command(*words)
    assert code == 2
    assert message in " ".join(said.err.split())


def test_a_store_without_episodes_says_how_to_fill_it(command, tmp_path):
    code, said = command("--from-traces", store=tmp_path / "empty.db")
    assert code == 2
    assert "holds no recorded episodes yet; play some first" in " ".join(said.err.split())
    state, error = ending_of(tmp_path / "empty.db")
    assert (state, error.split(";")[0]) == ("failed", "the store holds no recorded episodes yet")
