"""Two processes on this machine, over gloo: what they do together is what one does alone."""

import json
import os
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from training.trainers.job import network_of, train
from training.trainers.processes import Processes, local_bytes

TRAINING = """
import asyncio, importlib.util, json, pathlib, sys

import torch
from orchestra.traces.episode import Episode
from training.recipes import Recipe
from training.trainers import job
from training.trainers.processes import local_bytes

here, doubles = pathlib.Path(sys.argv[1]), sys.argv[2]
spec = importlib.util.spec_from_file_location("doubles", doubles)
games = importlib.util.module_from_spec(spec)
spec.loader.exec_module(games)
recipe = Recipe.model_validate_json((here / "recipe.json").read_text())
episodes = [Episode.model_validate(one) for one in json.loads((here / "episodes.json").read_text())]
opened = job.network_of
seen = {}

def looked_at(recipe, name, base, processes, device):
    network = opened(recipe, name, base, processes, device)
    kinds = {type(matrix).__name__ for matrix in network.network.parameters()}
    seen.update(rank=processes.rank, count=processes.count, bytes=local_bytes(network), kinds=sorted(kinds))
    seen["scorer"] = type(network.scorer).__name__
    return network

job.network_of = looked_at
cap = sys.argv[3] or None
source = games.Recorded(episodes)
done = asyncio.run(job.train(recipe, store=here / "s.db", folder=here / "runs", source=source, max_cost_usd=cap))
if done is not None:
    seen["ran_out"] = done.ran_out
    seen.update(curve=list(done.curve), versions={a: s.weights.version for a, s in done.adapters.items()})
(here / f"seen-{seen['rank']}.json").write_text(json.dumps(seen))
"""


@pytest.fixture
async def recorded(words, recipe_of, tmp_path):
    """Episodes of two agents, and a recipe that learns from them, in a folder."""
    game = words({"alice": "green", "bob": "red"}, max_tokens=2)
    episodes = [
        episode.model_copy(update={"transcripts": tuple(_valued(t, at) for t in episode.transcripts)})
        for at, episode in enumerate(await game.episodes({}, 15, 5))
    ]
    await game.close()
    (tmp_path / "episodes.json").write_text(json.dumps([one.model_dump(mode="json") for one in episodes]))

    def recipe(sharding="none"):
        made = recipe_of(
            agents=("alice", "bob"),
            steps={"count": 3, "episodes": 15, "row_tokens": 96},
            publish={"name": ""},
            loss={"options": {"kl": 0.1, "cap": 2.0}},
            base={"sharding": sharding, "device": "cpu"},
        )
        agents = {
            name: agent.model_copy(update={"learns": agent.learns.model_copy(update={"seats": (at,)})})
            for at, (name, agent) in enumerate(made.agents.items())
        }
        made = made.model_copy(update={"agents": agents})
        (tmp_path / "recipe.json").write_text(made.model_dump_json())
        return made

    return recipe, tmp_path, episodes


def _valued(transcript, at):
    turns = tuple(turn.model_copy(update={"reward": float((at + k) % 3)}) for k, turn in enumerate(transcript.turns))
    return transcript.model_copy(update={"turns": turns})


def by_two(folder, cap=""):
    """What each of two processes saw."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    doubles = str(Path(__file__).with_name("conftest.py"))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(folder), doubles, cap],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=150)[1].decode()[-3000:] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said[0] + said[1]
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(2)]


def figures(curve):
    """What must not depend on how many processes took the steps."""
    return [
        {name: line[name] for name in ("loss", "kl", "entropy", "gradient norm", "mismatch", "capped")}
        for line in curve
    ]


async def alone(recorded, doubles, recipe):
    _, folder, episodes = recorded
    return await train(recipe, store=folder / "one.db", folder=folder / "one", source=doubles["Recorded"](episodes))


async def test_two_processes_with_whole_networks_do_what_one_does(recorded, doubles):
    recipe, folder, _ = recorded
    one = await alone(recorded, doubles, recipe())
    first, second = by_two(folder)
    assert (first["count"], first["scorer"]) == (2, "DistributedDataParallel")
    assert "curve" not in second
    for here, there in zip(figures(one.curve), figures(first["curve"]), strict=True):
        assert there == pytest.approx(here, rel=1e-4, abs=1e-6)


async def test_two_processes_that_share_the_parameters_do_what_one_does(recorded, doubles, base_of):
    recipe, folder, _ = recorded
    chosen = recipe("full")
    one = await alone(recorded, doubles, chosen)
    first, second = by_two(folder)
    assert first["kinds"] == second["kinds"] == ["DTensor"]
    whole = local_bytes(network_of(chosen, "base", base_of, Processes(), "cpu"))
    for seen in (first, second):
        assert 0.45 * whole < seen["bytes"] < 0.55 * whole
    for here, there in zip(figures(one.curve), figures(first["curve"]), strict=True):
        assert there == pytest.approx(here, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("sharding", ["none", "full"])
async def test_a_cap_stops_both_processes_with_everything_saved(recorded, sharding):
    recipe_for, folder, _ = recorded
    recipe = recipe_for(sharding).model_copy(update={"machine_usd_per_hour": Decimal(3600)})
    recipe = recipe.model_copy(update={"steps": recipe.steps.model_copy(update={"count": 500})})
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    first, _ = by_two(folder, "3")
    assert "machine time" in first["ran_out"]
    assert 0 < len(first["curve"]) < 500
    assert list((folder / "runs").glob("*/checkpoint-*"))
