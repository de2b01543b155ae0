"""Training helps: the recipe `tiny`, five seeds of five, against a player that does not learn."""

import pytest

from graphs import Sampling
from orchestra.environments.matches import match
from orchestra.execution import Settings
from training.recipes import read
from training.trainers import train

GAMES = 200
"""At each of two seats."""
PARAMETERS_MOST = 2_000_000


async def worth(model, folder):
    """The mean return against random play, over both seats, with its 95 % interval."""
    settings = Settings(concurrency=64, engine={"dtype": "float32"})
    played = await match(
        "kuhn-poker",
        [model, "random"],
        games=GAMES,
        both_seats=True,
        sampling=Sampling(temperature=1.0, max_tokens=16),
        settings=settings,
        store=folder / "match.sqlite",
    )
    return next(result.mean_return for result in played.results if result.seat is None and result.team != "random")


@pytest.mark.parametrize("seed", range(5))
async def test_after_training_the_lower_bound_lies_above_the_upper_bound_before(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    recipe = read("tiny", [f"seed={seed}"])
    done = await train(recipe, store=tmp_path / "train.sqlite", folder=tmp_path / "runs")
    base = done.adapters["player"].weights.base
    before = await worth(f"{base}+{done.warmed['player']}", tmp_path)
    after = await worth(f"{base}+{done.adapters['player'].folder}", tmp_path)
    print(f"seed {seed}: {before.mean:+.3f} [{before.low:+.3f}, {before.high:+.3f}] before, ", end="")
    print(f"{after.mean:+.3f} [{after.low:+.3f}, {after.high:+.3f}] after")
    assert after.low > before.high


def test_the_made_model_is_tiny(tmp_path):
    from training.trainers.making import made

    transformers = pytest.importorskip("transformers")
    folder = made(read("tiny").base.make, ["<answer><PASS></answer>"] * 9, tmp_path, seed=0)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert sum(matrix.numel() for matrix in network.parameters()) <= PARAMETERS_MOST
