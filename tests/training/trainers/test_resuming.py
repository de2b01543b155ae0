import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import save_file

from orchestra.errors import InputError
from orchestra.ledger import Ledger
from orchestra.traces.records import RunRecord
from orchestra.traces.store import Store
from training.adapters import load_tensors
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


def _valued(transcript, at):
    turns = tuple(turn.model_copy(update={"reward": float((at + k) % 3)}) for k, turn in enumerate(transcript.turns))
    return transcript.model_copy(update={"turns": turns})


def started(folder, resume=""):
    doubles = Path(__file__).with_name("conftest.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder), str(doubles), resume],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def killed_after(process, folder, lines):
    """Wait until a run has taken so many steps, and kill it; its id."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        curves = list(folder.glob("runs/*/curve.jsonl"))
        if curves and len(curves[0].read_text().splitlines()) >= lines:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            return (folder / "run_id").read_text()
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        time.sleep(0.02)
    process.kill()
    raise AssertionError("the run took no steps")


async def test_a_run_killed_in_the_middle_goes_on_with_the_same_curve(recorded, doubles):
    recipe, folder, episodes = recorded
    whole = await train(recipe, store=folder / "w.db", folder=folder, source=doubles["Recorded"](episodes))
    process = await asyncio.to_thread(started, folder)
    with process:
        run_id = await asyncio.to_thread(killed_after, process, folder, 5)
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
