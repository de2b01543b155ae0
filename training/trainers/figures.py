"""What a step's episodes say of how it goes: rewards with intervals, valid actions, lengths."""

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from orchestra.traces.episode import Episode, Transcript
from training.samples import Strand
from training.samples.selection import Teaching

VIOLATION = "violation"
"""Name of the fact that is written about a game in which a seat's last reply was no move; its value says which seat."""
Z_95 = 1.959963984540054
"""Standard deviations of a normal distribution on either side that hold 95 %."""


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval of the mean, by the normal approximation; a single value has no interval.

    >>> interval([1.0, 0.0, 1.0, 0.0])["mean"]
    0.5
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return {"mean": mean, "low": mean, "high": mean, "count": count}
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = Z_95 * deviation / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half, "count": count}


Place = tuple[str, str, int]
"""Run, episode and seat."""


def rewards(episodes: Iterable[Episode], places: Container[Place] | None = None) -> dict[str, dict[str, float]]:
    """Mean reward with its interval by `game/seat`; of seats where a model played, or of `places` alone."""
    found: dict[str, list[float]] = defaultdict(list)
    for episode in episodes:
        playing = {transcript.seat for transcript in episode.transcripts if transcript.turns}
        for seat in episode.seats:
            value = seat.reward if seat.reward is not None else _turn_rewards(episode, seat.seat)
            if value is None:
                value = episode.score
            place = (episode.run_id, episode.episode_id, seat.seat)
            counts = seat.seat in playing or not playing if places is None else place in places
            if value is not None and counts:
                found[f"{episode.environment or 'task'}/{seat.seat}"].append(value)
    return {cell: interval(values) for cell, values in sorted(found.items())}


def pooled(cells: Mapping[str, Mapping[str, float]]) -> dict[str, float] | None:
    """Mean of all cells of `rewards`, each episode alike, with its 95 % interval; `None` of none.

    >>> pooled({"a/0": interval([1.0, 1.0]), "a/1": interval([0.0, 0.0])})["mean"]
    0.5
    """
    count = sum(cell["count"] for cell in cells.values())
    if not count:
        return None
    mean = math.fsum(cell["mean"] * cell["count"] for cell in cells.values()) / count
    half = math.hypot(*((cell["high"] - cell["low"]) / 2 * cell["count"] / count for cell in cells.values()))
    return {"mean": mean, "low": mean - half, "high": mean + half, "count": count}


def worth(episodes: Sequence[Episode], teaching: Teaching, served: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Mean reward with its interval by agent, of the seats where it spoke with the adapter in force.

    A seat's reward is its team's: agents of one team have the same. An agent whose adapter spoke nowhere is missing:
    what was recorded of others, or of older weights, says nothing of it.

    Args:
        episodes: of one step.
        teaching: says whose a turn is.
        served: agent -> `name@version` that these episodes were asked for with.
    """
    own: dict[str, set[Place]] = defaultdict(set)
    for episode in episodes:
        for transcript in episode.transcripts:
            for turn in transcript.turns:
                agent = teaching(episode, transcript, turn)
                if agent is not None and turn.adapter and turn.adapter == served.get(agent):
                    own[agent].add((episode.run_id, episode.episode_id, transcript.seat))
    found = {agent: pooled(rewards(episodes, places)) for agent, places in own.items()}
    return {agent: value for agent, value in found.items() if value is not None}


def spoken(episodes: Sequence[Episode], strands: Sequence[Strand]) -> dict[str, float]:
    """Reply length, share of valid actions where that is recorded, and failures."""
    lengths = [span.tokens for strand in strands for span in strand.spans]
    valid = [value for episode in episodes for value in _valid(episode)]
    turns = sum(len(transcript.turns) for episode in episodes for transcript in episode.transcripts)
    told: dict[str, float] = {
        "reply tokens": math.fsum(lengths) / len(lengths) if lengths else 0.0,
        "turns": turns / len(episodes) if episodes else 0.0,
        "failed episodes": sum(episode.error is not None for episode in episodes),
    }
    if valid:
        told["valid actions"] = math.fsum(valid) / len(valid)
    return told


def flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested figures by `above/below`, for writers that know no tables."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found


def _turn_rewards(episode: Episode, seat: int) -> float | None:
    given = [
        turn.reward
        for transcript in episode.transcripts
        if transcript.seat == seat
        for turn in transcript.turns
        if turn.reward is not None
    ]
    return math.fsum(given) if given else None


def _valid(episode: Episode) -> list[float]:
    """One figure for each turn of a game: every move but one that broke the rules and ended it."""
    found = []
    for transcript in episode.transcripts:
        moves = [turn for turn in transcript.turns if turn.step is not None]
        if moves:
            found += [1.0] * (len(moves) - 1) + [0.0 if _broke(episode, transcript) else 1.0]
    return found


def _broke(episode: Episode, transcript: Transcript) -> bool:
    said = (label.value for label in episode.labels if label.name == VIOLATION)
    return any(isinstance(value, Mapping) and value.get("seat") == transcript.seat for value in said)
