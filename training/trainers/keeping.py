"""Checkpoints that are whole or not there: adapters, optimiser, random state, and where the run stood."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestra.errors import InputError
from training.adapters.states import load_tensors, save_tensors, telling_no_room, write_bytes

ADAPTERS, OPTIMISER, RANDOM, STATE = "adapters.safetensors", "optimiser.safetensors", "random.safetensors", "state.json"
FORMER = ("value", "drawn", "seen_count", "seconds")
"""What checkpoints of earlier versions say besides."""
CURVE = "curve.jsonl"
"""One line of figures for each step."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where a run stands; everything it needs to go on that is no tensor."""

    step: int = 0
    """Steps finished."""
    warmed: int = 0
    """Steps of the warm-up that are finished."""
    updates: int = 0
    """Of the optimiser, in the present schedule."""
    seen: list[str] = field(default_factory=list)
    """Episodes that were learnt from, each once, for the adapters' cards."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Turns and steps that taught nothing, by reason."""
    credit: list[Any] | None = None
    """What the estimator of advantages keeps, as JSON can say it."""
    warm_adapters: dict[str, str] = field(default_factory=dict)
    """Agent -> name and version of its adapter after the warm-up."""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """Agent -> reward of its own seats in the last step that its adapter spoke in, with its interval."""
    probe: list[int] = field(default_factory=list)
    """Token ids whose log-probabilities publishers are asked for."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that was read."""

    progress: Progress
    adapters: Mapping[str, Tensor]
    """By `agent/name`."""
    optimiser: Mapping[str, Tensor]
    random: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder of one run."""

    folder: Path
    keep: int = 2

    @property
    def curve(self) -> Path:
        """The file of figures."""
        return self.folder / CURVE

    def checkpoints(self) -> list[Path]:
        """Whole ones, the latest last; one that a kill left moved away is put back."""
        for moved in self.folder.glob(".checkpoint-*.old"):
            if not (whole := moved.with_name(moved.stem.removeprefix("."))).exists():
                moved.replace(whole)
        found = [path for path in self.folder.glob("checkpoint-*") if (path / STATE).is_file()]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def save(self, progress: Progress, adapters: Mapping[str, Tensor], optimiser: Mapping[str, Tensor]) -> Path:
        """Write a checkpoint and let go of the oldest beyond `keep`.

        Raises:
            training.adapters.states.DiskFull: there is no room; earlier ones are still there.
        """
        target = self.folder / f"checkpoint-{progress.warmed + progress.step:06d}"
        staging, outdated = (target.with_name(f".{target.name}.{what}") for what in ("part", "old"))
        shutil.rmtree(staging, ignore_errors=True)
        try:
            save_tensors(staging / ADAPTERS, adapters)
            save_tensors(staging / OPTIMISER, optimiser)
            save_tensors(staging / RANDOM, _random_state())
            write_bytes(staging / STATE, json.dumps(asdict(progress)).encode())
            if target.exists():  # moved away, not removed: a kill in between leaves one of the two
                target.replace(outdated)
            staging.replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(outdated, ignore_errors=True)
        for old in self.checkpoints()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def latest(self) -> Kept | None:
        """The last checkpoint; `None` when the run wrote none.

        Raises:
            InputError: it is damaged.
        """
        found = self.checkpoints()
        if not found:
            return None
        try:
            state = json.loads((found[-1] / STATE).read_text(encoding="utf-8"))
            for former in FORMER:
                state.pop(former, None)
            progress = Progress(**state)
        except (AttributeError, ValueError, TypeError) as cause:
            raise InputError(
                f"checkpoint {str(found[-1])!r} is damaged ({cause}); remove it to go on from an earlier one"
            ) from cause
        return Kept(progress, *(load_tensors(found[-1] / name) for name in (ADAPTERS, OPTIMISER, RANDOM)))

    def lines(self) -> list[dict[str, Any]]:
        """Figures of every step so far; a line cut off by a kill is left out."""
        if not self.curve.is_file():
            return []
        found = []
        for line in self.curve.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def cut(self, progress: Progress) -> None:
        """Forget figures of steps after a checkpoint: they are taken again."""
        if self.curve.is_file():
            lines = [line for line in self.lines() if _is_before(line, progress)]
            write_bytes(self.curve, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def note(self, figures: Mapping[str, Any]) -> None:
        """Add the figures of a step.

        Raises:
            training.adapters.states.DiskFull: there is no room; the steps before are still there.
        """
        line = json.dumps(dict(figures)) + "\n"
        with telling_no_room(self.curve, len(line)):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.curve.open("a", encoding="utf-8") as file:
                file.write(line)


def random_restored(state: Mapping[str, Tensor]) -> None:
    """Let torch's generators go on where they were."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _is_before(line: Mapping[str, Any], progress: Progress) -> bool:
    if line.get("phase") == "warm-up":
        return int(line["step"]) <= progress.warmed
    return int(line["step"]) <= progress.step


def credit_to_json(state: Any) -> list[Any] | None:
    """What an estimator keeps, keyed by game and seat, as JSON can say it."""
    return None if state is None else [[game, seat, mean] for (game, seat), mean in dict(state).items()]


def credit_from_json(rows: Sequence[Any] | None) -> Any:
    """The inverse of `credit_to_json`."""
    return None if rows is None else {(str(game), int(seat)): float(mean) for game, seat, mean in rows}
