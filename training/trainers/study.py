"""Episodes to what one step learns from: strands, their advantages, and how much each token counts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestra.errors import InputError
from orchestra.traces.episode import Episode
from training.advantages import ADVANTAGES
from training.recipes import Learns, Recipe
from training.samples import (
    AGGREGATIONS,
    Batch,
    Floats,
    Strand,
    Strands,
    Trained,
    credit_rows,
    packed,
    strands,
    unpacked,
)

LOSSES_WITHOUT_CREDIT = {"imitation"}
"""Losses that ask nobody how well it went."""
SILENT = "episodes that taught nothing"
"""As skips are counted: nobody learns from a turn of theirs."""
UNSCORED = "episodes that failed before anybody scored them"
"""As skips are counted: how well they would have gone is not known."""
OPPONENT = "opponent"
"""Team of a seat that does not learn; it may be an agent's own past, which wears its adapter's name."""
WITHOUT, BELOW = "without any advantage", "with no advantage above the threshold"
FLAT = f"steps {WITHOUT}"
"""As skips are counted: nobody could learn anything in a step."""
ROUNDING = 1e-9
"""Advantages below this are rounding: every episode was worth as much."""
BESIDE = ("kl", "entropy")
"""Options of losses that move an agent whatever its advantages are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What one update of the optimiser learns from."""

    strands: tuple[Strand, ...]
    rows: Mapping[str, tuple[Batch, ...]]
    """Agent -> its rows."""
    weights: tuple[Floats, ...]
    """`[N]` for each strand; each agent's sum to what its aggregation says."""
    advantages: tuple[Floats, ...] | None
    """`[N]` for each strand; `None` where the loss needs none."""
    flat: Mapping[str, str] = field(default_factory=dict)
    """Agents whose advantages would move nothing, and why."""
    moves_flat: bool = False
    """Whether something else in the loss moves those too."""

    @property
    def learnt(self) -> Mapping[str, tuple[Batch, ...]]:
        """Rows of the agents that are updated.

        A loss of zero is no reason for an update: AdamW would decay weights and moments, and move by what it remembers.
        """
        return {agent: rows for agent, rows in self.rows.items() if self.moves_flat or agent not in self.flat}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What one step learns from, dealt out among its updates."""

    studies: tuple[Study, ...]
    strands: tuple[Strand, ...]
    skipped: Mapping[str, int]
    """Turns and episodes that taught nothing, steps that taught nobody, and updates without an agent, by reason."""
    state: Any
    """What the estimator of advantages keeps for the next step."""
    read_tokens: int
    """Tokens the network reads in one pass over all rows."""
    strand_tokens: int
    """Tokens of all strands, those of shared prefixes counted for each."""


def needs_credit(recipe: Recipe) -> bool:
    """Whether it matters to the loss how well episodes went."""
    return recipe.loss.name not in LOSSES_WITHOUT_CREDIT


def teaching(recipe: Recipe) -> tuple[Trained, ...]:
    """Which agent learns from which turns."""
    rules = []
    for name, agent in recipe.agents.items():
        said = agent.learns
        is_silent = said == Learns()
        rules.append(
            Trained(
                agent=name,
                nodes=said.nodes,
                seats=said.seats,
                teams=said.teams,
                adapters=(name,) if is_silent else said.adapters,
                not_teams=(OPPONENT,) if is_silent else (),
            )
        )
    return tuple(rules)


def lesson(episodes: Sequence[Episode], recipe: Recipe, *, packs: bool, state: Any, seed: int) -> Lesson:
    """What `episodes` teach.

    Args:
        packs: whether the network takes packed rows.
        state: what the estimator kept from the step before.
        seed: deals episodes out among updates.

    Raises:
        InputError: no turn of them is to be learnt from, or one cannot be.
    """
    how, dealt_out = recipe.steps, len(episodes)
    if needs_credit(recipe):
        scored = [episode for episode in episodes if _was_scored(episode)]
        if not scored and episodes:
            raise InputError(
                f"all {dealt_out} episodes failed, the first with: {episodes[0].error}; mend it and go on with --resume"
            )
        episodes = scored
    unscored = dealt_out - len(episodes)
    read = strands(
        episodes,
        teaching(recipe),
        breaks=how.breaks,
        without_ids=how.without_ids,
        longest_tokens=how.longest_tokens or how.row_tokens,
    )
    if not read.strands:
        agents = ", ".join(recipe.agents)
        raise InputError(
            f"none of {len(episodes)} episodes holds a turn that {agents} would learn from"
            f"{_because(read.skipped)}; say with [agents.NAME.learns] which turns are theirs: nodes, seats, teams or "
            "adapters, or every = true for every turn of a model"
        )
    advantages: tuple[Floats, ...] | None = None
    if needs_credit(recipe):
        advantages, state = _advantages(read.strands, episodes, recipe, state)
    studies = tuple(
        _study(
            [read.strands[at] for at in dealt], [advantages[at] for at in dealt] if advantages else None, recipe, packs
        )
        for dealt in _dealt(read.strands, how.updates, seed)
    )
    rows = [row for study in studies for rows in study.rows.values() for row in rows]
    silent = len(episodes) - len({strand.episode for strand in read.strands})
    return Lesson(
        studies=studies,
        strands=read.strands,
        skipped={
            **read.skipped,
            **_counted(SILENT, silent),
            **_counted(UNSCORED, unscored),
            **_flat_counted(studies, how.epochs),
        },
        state=state,
        read_tokens=sum(row.tokens for row in rows),
        strand_tokens=sum(row.strand_tokens for row in rows),
    )


def imitated(shown: Strands, recipe: Recipe, *, packs: bool, seed: int) -> Lesson:
    """What demonstrations teach: strands whose every reply is to be imitated.

    Raises:
        InputError: there are none.
    """
    written = shown.strands
    if not written:
        raise InputError(
            f"the demonstrations hold no reply that could be imitated{_because(shown.skipped)}; look at the warm-up's "
            "source"
        )
    studies = tuple(
        _study([written[at] for at in dealt], None, recipe, packs)
        for dealt in _dealt(written, recipe.steps.updates, seed)
    )
    rows = [row for study in studies for rows in study.rows.values() for row in rows]
    return Lesson(
        studies=studies,
        strands=tuple(written),
        skipped=dict(shown.skipped),
        state=None,
        read_tokens=sum(row.tokens for row in rows),
        strand_tokens=sum(row.strand_tokens for row in rows),
    )


def _was_scored(episode: Episode) -> bool:
    """A failed episode without a reward says nothing of how well it went."""
    rewards = [seat.reward for seat in episode.seats] + [turn.reward for turn in episode.turns]
    return episode.error is None or episode.score is not None or any(reward is not None for reward in rewards)


def _counted(reason: str, count: int) -> dict[str, int]:
    return {reason: count} if count else {}


def _flat_counted(studies: Sequence[Study], epochs: int) -> dict[str, int]:
    """Of a step in which nobody has anything to learn the step, else each update that has nothing for an agent."""
    reasons = [(agent, reason) for study in studies for agent, reason in study.flat.items()]
    if len(reasons) == sum(len(study.rows) for study in studies):
        return {f"steps {BELOW if BELOW in dict(reasons).values() else WITHOUT}": 1}
    return dict(Counter(f"updates {reason} for agent {agent!r}" for agent, reason in reasons for _ in range(epochs)))


def _because(skipped: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {reason}' for reason, count in skipped.items())})" if skipped else ""


def _advantages(
    chosen: Sequence[Strand], episodes: Sequence[Episode], recipe: Recipe, state: Any
) -> tuple[tuple[Floats, ...], Any]:
    estimator = ADVANTAGES[recipe.credit.estimator]
    if recipe.credit.options:
        estimator = estimator.using(**recipe.credit.options)
    credited = credit_rows(chosen, episodes)
    per_turn, state = estimator(credited.rows, state)
    spread = credited.spread(chosen, per_turn)
    largest = recipe.credit.clip
    return (spread if largest is None else tuple(np.clip(each, -largest, largest) for each in spread)), state


def _dealt(chosen: Sequence[Strand], updates: int, seed: int) -> list[list[int]]:
    """Places of strands, episodes kept whole, for each update; fewer updates where there are fewer episodes."""
    ids = list(dict.fromkeys(strand.episode for strand in chosen))
    if updates > 1:
        ids = [ids[at] for at in np.random.default_rng(seed).permutation(len(ids))]
    part = {episode: at % updates for at, episode in enumerate(ids)}
    places: dict[int, list[int]] = defaultdict(list)
    for at, strand in enumerate(chosen):
        places[part[strand.episode]].append(at)
    return [places[at] for at in sorted(places)]


def _study(chosen: Sequence[Strand], advantages: Sequence[Floats] | None, recipe: Recipe, packs: bool) -> Study:
    how = recipe.steps
    options = {"longest_tokens": how.longest_tokens or how.row_tokens} if recipe.credit.aggregation == "dr-grpo" else {}
    weights: list[Floats] = [np.zeros(0)] * len(chosen)
    # Each agent's loss is a mean over its own tokens: what one agent says does not slow another down.
    for agent in dict.fromkeys(strand.agent for strand in chosen):
        places = [at for at, strand in enumerate(chosen) if strand.agent == agent]
        for at, each in zip(
            places, AGGREGATIONS[recipe.credit.aggregation]([chosen[at] for at in places], **options), strict=True
        ):
            weights[at] = each
    rows: dict[str, list[Batch]] = defaultdict(list)
    for row in packed(chosen, how.row_tokens) if packs else unpacked(chosen):
        rows[row.agent].append(row)
    return Study(
        strands=tuple(chosen),
        rows={agent: tuple(found) for agent, found in sorted(rows.items())},
        weights=tuple(weights),
        advantages=None if advantages is None else tuple(advantages),
        flat={} if advantages is None else _flat(chosen, advantages, recipe),
        moves_flat=any(recipe.loss.options.get(term) for term in BESIDE),
    )


def _flat(chosen: Sequence[Strand], advantages: Sequence[Floats], recipe: Recipe) -> dict[str, str]:
    """Agents that `advantages` would teach nothing, and why."""
    of: dict[str, list[Floats]] = defaultdict(list)
    for strand, each in zip(chosen, advantages, strict=True):
        of[strand.agent].append(each)
    together = {agent: np.concatenate(each) for agent, each in of.items()}
    if recipe.loss.name == "clipped":
        return {agent: WITHOUT for agent, each in together.items() if np.abs(each).max() < ROUNDING}
    if recipe.loss.name == "rejection-sampling":
        threshold = recipe.loss.options.get("threshold", 0.0)
        return {agent: BELOW for agent, each in together.items() if each.max() <= threshold}
    return {}  # weighted by its advantage, a turn that is as good as the others counts fully
