"""Lesson 6: agents learn by playing.

Shows: a whole training run in one call, and what came of it. The recipe `tiny` makes a language model of 0.3 million
parameters on the spot; it imitates random play until it knows what a move looks like, then learns Kuhn poker by playing
itself, and its adapter is saved. About a minute on two quiet cores; needs the extras `train` and `games`. Arguments
change the recipe, such as `steps.count=3`. Leaves out: a model worth having (`orchestra train mars-cpu`), resuming, and
learning from recorded episodes (`orchestra train --help`); lesson 7 puts an adapter to use.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestra.execution import run_sync
from training.recipes import read
from training.trainers import train


def rewards(step: Mapping[str, Any]) -> str:
    """Mean reward of each game and seat in a step, with its 95 % interval."""
    return ", ".join(
        f"{seat} {r['mean']:+.2f} ({r['low']:+.2f} to {r['high']:+.2f})" for seat, r in step["reward"].items()
    )


if __name__ == "__main__":
    done = run_sync(train(read("tiny", sys.argv[1:]), folder=Path("trained")))
    assert done is not None, "this is one process"
    played = [step for step in done.curve if step["phase"] == "train"]
    for which, step in (("first", played[0]), ("last", played[-1])):
        print(f"{which} step: {rewards(step)}")
    for agent, saved in done.adapters.items():
        print(f"{agent}: {saved.weights.served} in {saved.folder}")
