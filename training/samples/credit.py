"""Strands to the record of the estimators, and the estimators' advantages back to tokens."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestra.errors import InputError
from orchestra.traces.content import canonical_json, digest
from orchestra.traces.episode import Episode, Transcript
from training.advantages import Floats, SeatTurns
from training.samples.record import Strand, qualified

RowKey = tuple[str, int, str]
"""Episode, seat and node."""


class NoReward(InputError):
    """An episode says nothing of how well it went."""


@dataclass(frozen=True, slots=True)
class CreditRows:
    """What the estimators are given, and which strands each row's turns lie in."""

    rows: tuple[SeatTurns, ...]
    """One for each episode, seat and node, in the order of their first strands."""
    keys: tuple[RowKey, ...]
    turns: tuple[tuple[int, ...], ...]
    """Positions, in its transcript, of each row's turns."""

    def spread(self, strands: Sequence[Strand], per_turn: Sequence[Floats]) -> tuple[Floats, ...]:
        """`[N]` for each strand: its turns' figures on their tokens, such as advantages.

        Args:
            strands: those the rows were made from.
            per_turn: `[K]` for each row, as an estimator returns them.
        """
        values: Mapping[RowKey, Mapping[int, float]] = {
            key: dict(zip(turns, map(float, figures), strict=True))
            for key, turns, figures in zip(self.keys, self.turns, per_turn, strict=True)
        }
        return tuple(
            strand.along(np.array([values[strand.row][span.turn] for span in strand.spans])) for strand in strands
        )


def credit_rows(
    strands: Sequence[Strand],
    episodes: Sequence[Episode],
    *,
    group: Callable[[Episode], str] | None = None,
    role: Callable[[Episode, Transcript], str] | None = None,
) -> CreditRows:
    """The turns of each episode, seat and node with their rewards.

    A turn's own rewards count where there are any; else the seat's reward, or for want of one the episode's score, is
    earned by its last turn. Rewards of turns that are not trained on go to the last trained turn before them. Where an
    environment's seat holds several trained nodes, each is a game of its own to the estimators: an agent is compared
    with itself. What has no strand, such as a transcript that is longer than may be, has no row and no part in a mean.

    Args:
        strands: of any number of agents; an estimator is given those of one, or of all.
        episodes: at least those the strands come from.
        group: names what an episode is compared with; `None` takes `grouped`.
        role: functional group of a node; `None` takes the node's name.

    Raises:
        NoReward: when an episode has neither turn rewards, nor its seat's, nor a score.
        KeyError: when an episode is not there.
    """
    known = {qualified(episode.run_id, episode.episode_id): episode for episode in episodes}
    found: dict[RowKey, dict[int, int]] = defaultdict(dict)
    for strand in strands:
        found[strand.row].update((span.turn, span.tokens) for span in strand.spans)
    nodes: dict[tuple[str, int], set[str]] = defaultdict(set)
    for name, seat, node in found:
        nodes[game_name(known[name]), seat].add(node)
    naming = group or grouped(episodes)
    rows, turns = [], []
    for (name, seat, node), tokens in found.items():
        episode = known[name]
        transcript = episode.transcript(node, seat)
        kept = tuple(sorted(tokens))
        game = game_name(episode)
        inside = f"/{node}" if len(nodes[game, seat]) > 1 else ""
        rows.append(
            SeatTurns(
                group=naming(episode) + inside,
                game=game + inside,
                seat=seat,
                rewards_K=_rewards(episode, transcript, kept),
                tokens_K=np.array([tokens[at] for at in kept], dtype=np.int64),
                role=node if role is None else role(episode, transcript),
            )
        )
        turns.append(kept)
    return CreditRows(tuple(rows), tuple(found), tuple(turns))


def game_name(episode: Episode) -> str:
    """What was played; tasks outside of an environment are one game."""
    return episode.environment or "task"


def grouped(episodes: Iterable[Episode]) -> Callable[[Episode], str]:
    """Names what each of `episodes` is compared with: those of the same task.

    Games that were each dealt but once have nobody to be compared with but all others of the same game. Runs number
    their tasks as they like: outside of an environment, a task that was heard in other words is another.
    """
    played = Counter((game_name(episode), _task(episode)) for episode in episodes)

    def name(episode: Episode) -> str:
        task = _task(episode)
        alone = episode.environment is not None and played[game_name(episode), task] < 2
        return f"game {game_name(episode)}" if alone or task is None else f"task {task}"

    return name


def groups(episodes: Sequence[Episode]) -> Mapping[str, tuple[str, ...]]:
    """Names of the episodes of each group, by the group's name."""
    found: dict[str, list[str]] = defaultdict(list)
    name = grouped(episodes)
    for episode in episodes:
        found[name(episode)].append(qualified(episode.run_id, episode.episode_id))
    return {group: tuple(members) for group, members in found.items()}


def _task(episode: Episode) -> str | None:
    if episode.task_id is None or episode.input is None or episode.environment is not None:
        return episode.task_id
    return f"{episode.task_id} {digest(canonical_json(episode.input).encode())[-12:]}"


def _rewards(episode: Episode, transcript: Transcript, kept: Sequence[int]) -> Floats:
    rewards = np.zeros(len(kept))
    own = [turn.reward for turn in transcript.turns]
    if any(reward is not None for reward in own):
        for at, reward in enumerate(own):
            place = int(np.searchsorted(kept, at, side="right")) - 1
            # What was earned before the first trained turn is nobody's to learn from.
            if reward is not None and place >= 0:
                rewards[place] += reward
        return rewards
    seat = next((seat for seat in episode.seats if seat.seat == transcript.seat), None)
    total = seat.reward if seat is not None and seat.reward is not None else episode.score
    if total is None:
        raise NoReward(
            f"episode {episode.episode_id!r} has no reward for seat {transcript.seat} and no score (run "
            f"{episode.run_id!r}); play it with `orchestra evaluate`, which scores, leave such episodes out "
            "(`--scored`), or learn with the loss 'imitation', which asks nobody how well it went"
        )
    rewards[-1] = total
    return rewards
