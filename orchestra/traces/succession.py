"""Whether a transcript is one growing sequence of token ids, or was rendered again in between.

An application sends messages, and its server makes ids of them anew for every call. What was sampled and what is read
back in the next prompt are then often not the same ids: decoding and encoding again changes some replies, and templates
rewrite others. Such turns can be trained on each by itself, and not as one sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestra.traces.episode import Transcript, Turn

Kind = Literal["continues", "drifts", "departs", "unknown"]


@dataclass(frozen=True, slots=True)
class Step:
    """How a turn follows the one before it."""

    turn: int
    """Position of the later turn in its transcript; the first that has one before it is 1."""
    kind: Kind
    """`continues`: its prompt begins with the earlier prompt and reply, id by id. `drifts`: it begins with the earlier
    prompt, and then the reply is not the one that was sampled. `departs`: not even the earlier prompt is there.
    `unknown`: ids of one of the two were not captured."""
    at: int | None = None
    """First position of the later prompt where it differs; `None` where it does not, or is not known."""


@dataclass(frozen=True, slots=True)
class Continuity:
    """How the turns of one transcript follow each other."""

    steps: tuple[Step, ...]
    """One for each turn but the first."""

    @property
    def unbroken(self) -> bool:
        """Whether every turn continues the one before."""
        return all(step.kind == "continues" for step in self.steps)

    @property
    def stretches(self) -> tuple[tuple[int, ...], ...]:
        """Positions of turns that are one sequence of ids each."""
        runs: list[list[int]] = [[0]]
        for step in self.steps:
            if step.kind == "continues":
                runs[-1].append(step.turn)
            else:
                runs.append([step.turn])
        return tuple(map(tuple, runs))

    def count(self, kind: Kind) -> int:
        """How many turns follow theirs in that way."""
        return sum(step.kind == kind for step in self.steps)


def continuity(transcript: Transcript | Sequence[Turn]) -> Continuity:
    """How the turns of `transcript` follow each other, by their token ids."""
    turns = transcript.turns if isinstance(transcript, Transcript) else transcript
    return Continuity(tuple(_step(at, turns[at - 1], turns[at]) for at in range(1, len(turns))))


def _step(at: int, earlier: Turn, later: Turn) -> Step:
    if earlier.prompt_token_ids is None or earlier.reply_token_ids is None or later.prompt_token_ids is None:
        return Step(at, "unknown")
    begun = earlier.prompt_token_ids
    whole = begun + earlier.reply_token_ids
    prompt = later.prompt_token_ids
    same = next((i for i, (one, other) in enumerate(zip(whole, prompt, strict=False)) if one != other), None)
    if same is None and len(prompt) >= len(whole):
        return Step(at, "continues")
    where = len(prompt) if same is None else same
    return Step(at, "drifts" if where >= len(begun) else "departs", where)
