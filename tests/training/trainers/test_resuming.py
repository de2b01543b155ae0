import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import save_file

from orchestra.errors import InputError
from orchestra.ledger import Ledger
from orchestra.traces.records import RunRecord
from orchestra.traces.store import Store
from training.adapters import load_tensors
from training.recipes import read
from training.trainers.job import train

TRAINING = """
import asyncio, importlib.util, json, pathlib, sys, time

from orchestra.traces.episode import Episode
from training.recipes import Recipe
from training.trainers.job import train

here, doubles, resume = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] or None
spec = importlib.util.spec_from_file_location("doubles", doubles)
games = importlib.util.module_from_spec(spec)
spec.loader.exec_module(games)
recipe = Recipe.model_validate_json((here / "recipe.json").read_text())
episodes = [Episode.model_validate(one) for one in json.loads((here / "episodes.json").read_text())]
asyncio.run(
    train(
        recipe,
        store=here / "s.db",
        folder=here / "runs",
        source=games.Recorded(episodes),
        resume=resume,
        on_run=lambda run_id: (here / "run_id").write_text(run_id),
        teller=lambda figures: time.sleep(0.25),
    )
)
"""
SELF_PLAY = """
import asyncio, os, pathlib, signal, sys

from training.recipes import Recipe
from training.trainers.job import train
from training.trainers.update import Learner

here, moment = pathlib.Path(sys.argv[1]), int(sys.argv[2])
recipe = Recipe.model_validate_json((here / "recipe.json").read_text())
begun = here / "run_id"
update, done = Learner.update, []

def killed(learner, *given, **chosen):
    done.append(update(learner, *given, **chosen))
    if len(done) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    return done[-1]

Learner.update = killed
asyncio.run(
    train(
        recipe,
        store=here / "s.db",
        folder=here / "runs",
        resume=begun.read_text() if begun.exists() else None,
        on_run=begun.write_text,
    )
)
"""
"""Plays with itself and learns, and is killed after so many updates of the optimiser."""
LIVE = (
    "base.make.hidden=32",
    "credit.estimator=spiral",
    "publish.settings={deterministic=true, threads=1}",
    "optimiser.learning_rate=1e-4",
    "steps={count=3, episodes=8, updates=12, row_tokens=4096}",
    "warmup.steps=2",
    "warmup.episodes=24",
)
"""Of the recipe `tiny`; with one request at a time, what is sampled does not depend on how requests meet."""
FIGURES = ("step", "loss", "gradient norm", "learning rate", "entropy", "mismatch", "ratio")


@pytest.fixture
async def recorded(words, recipe_of, tmp_path):
    """A recipe and a folder with episodes it learns from, in which a run can be started as a process."""
    game = words({"player": "green"}, max_tokens=2)
    episodes = await game.episodes({}, 24, 5)
    await game.close()
    varied = [
        episode.model_copy(update={"transcripts": tuple(_valued(t, at) for t in episode.transcripts)})
        for at, episode in enumerate(episodes)
    ]
    recipe = recipe_of(
        steps={"count": 8, "episodes": 8, "updates": 2},
        publish={"name": ""},
        learns={"seats": [0]},
        optimiser={"learning_rate": 2e-3, "warmup_updates": 3},
        checkpoints={"every": 2},
    )
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    (tmp_path / "episodes.json").write_text(json.dumps([one.model_dump(mode="json") for one in varied]))
    return recipe, tmp_path, varied


def _worth(transcript, reward):
    turns = tuple(turn.model_copy(update={"reward": reward}) for turn in transcript.turns)
    return transcript.model_copy(update={"turns": turns})


def _valued(transcript, at):
    turns = tuple(turn.model_copy(update={"reward": float((at + k) % 3)}) for k, turn in enumerate(transcript.turns))
    return transcript.model_copy(update={"turns": turns})


def killed_after(forks, child, folder, lines):
    """Wait until a run has taken so many steps, and kill it; its id."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        curves = list(folder.glob("runs/*/curve.jsonl"))
        if curves and len(curves[0].read_text().splitlines()) >= lines:
            os.kill(child, signal.SIGKILL)
            assert forks.ended(child) == -signal.SIGKILL
            return (folder / "run_id").read_text()
        time.sleep(0.02)
    forks.ended(child, 0)
    raise AssertionError(f"the run took no steps: {(folder / 'said').read_text()[-2000:]}")


async def test_a_run_killed_in_the_middle_goes_on_with_the_same_curve(recorded, doubles, forks):
    recipe, folder, episodes = recorded
    whole = await train(recipe, store=folder / "w.db", folder=folder, source=doubles["Recorded"](episodes))
    child = forks.start(TRAINING, folder, Path(__file__).with_name("conftest.py"), "", said=folder / "said")
    run_id = killed_after(forks, child, folder, 5)
    again = await train(
        recipe, store=folder / "s.db", folder=folder / "runs", source=doubles["Recorded"](episodes), resume=run_id
    )
    assert again.run_id == run_id
    assert [line["step"] for line in again.curve] == list(range(1, 9))
    for one, other in zip(again.curve, whole.curve, strict=True):
        assert {name: one[name] for name in FIGURES} == pytest.approx({name: other[name] for name in FIGURES}, rel=1e-5)
    assert again.adapters["player"].weights.version == whole.adapters["player"].weights.version
    with Store.open(folder / "s.db", read_only=True) as store:
        assert store.run(run_id).attempts == 2
        books = Ledger(None)
        books.replay(line.entry for line in store.ledger_entries(run_id))
    assert books.spent == again.spent_nano > 0


async def test_self_play_killed_in_its_warm_up_and_in_training_ends_as_if_it_had_not_been(own_cache, forks, tmp_path):
    recipe = read("tiny", LIVE)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    whole = await train(recipe, store=tmp_path / "w.db", folder=tmp_path / "runs")
    # After the first update of the warm-up's second step, whose first is kept; then after that of the second step, past
    # the twelve updates of the warm-up's second and the first's eight, one for each game.
    for moment in (12 + 1, 12 + 8 + 1):
        child = forks.start(SELF_PLAY, tmp_path, moment, said=tmp_path / "said")
        assert forks.ended(child) == -signal.SIGKILL, (tmp_path / "said").read_text()
    run_id = (tmp_path / "run_id").read_text()
    again = await train(recipe, store=tmp_path / "s.db", folder=tmp_path / "runs", resume=run_id)
    assert [(line["phase"], line["step"]) for line in again.curve] == [
        ("warm-up", 1),
        ("warm-up", 2),
        ("train", 1),
        ("train", 2),
        ("train", 3),
    ]
    assert without_clocks(again.curve) == without_clocks(whole.curve)
    assert again.adapters["player"].weights.version == whole.adapters["player"].weights.version
    assert again.warmed["player"].name == whole.warmed["player"].name
    # Of every game and seat a running mean, without which the advantages of later steps would be others.
    assert means(again) == means(whole)
    assert [mean != 0 for mean in means(whole).values()] == [True, True]
    with Store.open(tmp_path / "s.db", read_only=True) as store, Store.open(tmp_path / "w.db", read_only=True) as plain:
        assert store.run(run_id).attempts == 3
        entries = [line.entry for line in store.ledger_entries(run_id)]
        tokens, of_second = paid(plain, whole.run_id, "run/"), paid(plain, whole.run_id, "run/1/")
        assert paid(store, run_id, "run/") == tokens + of_second  # the games of one step were played twice
        assert 0 < of_second < tokens
        assert paid(store, run_id, "run") == again.spent_nano
    lost = [entry.what for entry in entries if entry.event == "unknown"]
    assert lost == ["warm-up step 2", "train step 2"]


def without_clocks(curve):
    """What a run's steps came to, whenever and however fast they were taken."""
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "tokens per second", "cash_usd")}
        for line in curve
    ]


def means(done):
    """What the estimator of advantages kept in the last checkpoint, by game and seat."""
    last = max(done.folder.glob("checkpoint-*"))
    return {(game, seat): mean for game, seat, mean in json.loads((last / "state.json").read_text())["credit"]}


def paid(store, run_id, begins):
    """Nano-USD that were paid from ledgers whose path begins so; the games of a step are `run/STEP/`, from 0."""
    books = Ledger(None)
    entries = (line.entry for line in store.ledger_entries(run_id))
    books.replay(entry for entry in entries if entry.ledger.startswith(begins))
    return books.spent


async def test_running_means_go_on_from_step_to_step_and_over_a_resumption(words, recipe_of, doubles, tmp_path):
    game = words({"player": "green"})
    alike = [
        episode.model_copy(update={"transcripts": tuple(_worth(t, 1.0) for t in episode.transcripts)})
        for episode in await game.episodes({}, 4, 1)
    ]
    await game.close()
    recipe = recipe_of(
        steps={"count": 3, "episodes": 4}, credit={"estimator": "spiral"}, learns={"seats": [0]}, publish={"name": ""}
    )
    chosen = {"store": tmp_path / "s.db", "folder": tmp_path, "source": doubles["Recorded"](alike)}
    begun = []

    def stop(figures):
        if figures["step"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        await train(recipe, on_run=begun.append, teller=stop, **chosen)
    done = await train(recipe, resume=begun[0], **chosen)
    assert means(done) == {("words", 0): pytest.approx(2 * (1 - 0.95 ** (3 * 4)))}  # two turns, each worth 1


class Stopped(Exception):
    """In place of a kill."""


async def test_a_run_is_not_resumed_with_another_recipe(recorded, doubles):
    recipe, folder, episodes = recorded
    done = await train(recipe, store=folder / "w.db", folder=folder, source=doubles["Recorded"](episodes))
    other = recipe.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match="other seed"):
        await train(
            other, store=folder / "w.db", folder=folder, source=doubles["Recorded"](episodes), resume=done.run_id
        )


async def test_a_run_is_not_resumed_over_other_base_weights_and_one_that_kept_no_hash_of_them_is(
    recorded, doubles, words_base
):
    recipe, folder, episodes = recorded
    base = Path(shutil.copytree(words_base, folder / "base"))
    recipe = recipe.model_copy(
        update={
            "base": recipe.base.model_copy(update={"model": f"local/{base}"}),
            "steps": recipe.steps.model_copy(update={"count": 2}),
        }
    )
    chosen = {"store": folder / "w.db", "folder": folder}
    done = await train(recipe, source=doubles["Recorded"](episodes), **chosen)
    weights = load_tensors(base / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"was started over base weights \w{12}…, and those of .* are now \w{12}…;"):
        await train(recipe, source=doubles["Recorded"](episodes), resume=done.run_id, **chosen)
    with Store.open(folder / "w.db") as store:
        known = store.run(done.run_id)
        assert known.attempts == 1
        old = {name: value for name, value in known.attributes.items() if name != "base_sha256"}
        await store.write(RunRecord(run_id="old", command="train", attributes=old))
    again = await train(recipe, source=doubles["Recorded"](episodes), resume="old", **chosen)
    assert (again.run_id, len(again.curve)) == ("old", 2)


async def test_the_last_checkpoints_stay_and_older_ones_go(recorded, doubles):
    recipe, folder, episodes = recorded
    done = await train(recipe, store=folder / "w.db", folder=folder, source=doubles["Recorded"](episodes))
    assert sorted(path.name for path in done.folder.glob("checkpoint-*")) == ["checkpoint-000006", "checkpoint-000008"]


async def test_a_finished_run_that_is_resumed_changes_nothing(recorded, doubles):
    recipe, folder, episodes = recorded
    chosen = {"store": folder / "w.db", "folder": folder}
    done = await train(recipe, source=doubles["Recorded"](episodes), **chosen)
    _kept_by_an_earlier_version(done.folder / "checkpoint-000008" / "state.json")
    again = await train(recipe, source=doubles["Recorded"](episodes), resume=done.run_id, **chosen)
    assert again.curve == done.curve
    assert again.adapters["player"].weights.version == done.adapters["player"].weights.version


def _kept_by_an_earlier_version(path):
    """With one value for all agents together."""
    state = json.loads(path.read_text())
    del state["values"]
    path.write_text(json.dumps({**state, "value": {"mean": 1.0, "low": 0.5, "high": 1.5, "count": 4}}))
