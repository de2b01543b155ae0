"""Two processes on this machine, over gloo: what they do together is what one does alone."""

import json
import socket
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
BFLOAT16_NOISE = 2.0**-8
"""Half of what lies between two numbers of eight binary digits, relative to them."""


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

    def recipe(sharding="none", **base):
        made = recipe_of(
            agents=("alice", "bob"),
            steps={"count": 3, "episodes": 15, "row_tokens": 96},
            publish={"name": ""},
            loss={"options": {"kl": 0.1, "cap": 2.0}},
            base={"sharding": sharding, "device": "cpu", **base},
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


@pytest.fixture
def by_two(forks):
    """Trains what is in a folder in two processes; what each of them saw."""

    def trained(folder, cap=""):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        doubles, said = Path(__file__).with_name("conftest.py"), [folder / f"said-{rank}" for rank in range(2)]
        running = [
            forks.start(TRAINING, folder, doubles, cap, said=said[rank], **shared, RANK=str(rank), LOCAL_RANK=str(rank))
            for rank in range(2)
        ]
        codes = [forks.ended(child) for child in running]
        assert codes == [0, 0], "".join(file.read_text()[-3000:] for file in said)
        return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(2)]

    return trained


def figures(curve):
    """What must not depend on how many processes took the steps."""
    return [
        {name: line[name] for name in ("loss", "kl", "entropy", "gradient norm", "mismatch", "capped")}
        for line in curve
    ]


async def alone(recorded, doubles, recipe):
    _, folder, episodes = recorded
    return await train(recipe, store=folder / "one.db", folder=folder / "one", source=doubles["Recorded"](episodes))


async def test_two_processes_with_whole_networks_do_what_one_does(recorded, doubles, by_two):
    recipe, folder, _ = recorded
    one = await alone(recorded, doubles, recipe())
    first, second = by_two(folder)
    assert (first["count"], first["scorer"]) == (2, "DistributedDataParallel")
    assert "curve" not in second
    for here, there in zip(figures(one.curve), figures(first["curve"]), strict=True):
        assert there == pytest.approx(here, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("base", "noise"),
    [({}, 1e-4), ({"dtype": "bfloat16", "checkpointing": True}, BFLOAT16_NOISE)],
    ids=["float32", "bfloat16 and checkpointing"],
)
async def test_two_processes_that_share_the_parameters_do_what_one_does(
    recorded, doubles, base_of, by_two, base, noise
):
    recipe, folder, _ = recorded
    chosen = recipe("full", **base)
    one = await alone(recorded, doubles, chosen)
    first, second = by_two(folder)
    assert first["kinds"] == second["kinds"] == ["DTensor"]
    whole = local_bytes(network_of(chosen, "base", base_of, Processes(), "cpu"))
    for seen in (first, second):
        assert 0.45 * whole < seen["bytes"] < 0.55 * whole
    for here, there in zip(figures(one.curve), figures(first["curve"]), strict=True):
        assert there == pytest.approx(here, rel=noise, abs=noise / 100)


@pytest.mark.parametrize("sharding", ["none", "full"])
async def test_a_cap_stops_both_processes_with_everything_saved(recorded, sharding, by_two):
    recipe_for, folder, _ = recorded
    recipe = recipe_for(sharding).model_copy(update={"machine_usd_per_hour": Decimal(3600)})
    recipe = recipe.model_copy(update={"steps": recipe.steps.model_copy(update={"count": 500})})
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    first, _ = by_two(folder, "3")
    assert "machine time" in first["ran_out"]
    assert 0 < len(first["curve"]) < 500
    assert list((folder / "runs").glob("*/checkpoint-*"))
