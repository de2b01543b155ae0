"""Which turns teach which agent; all others are context."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestra.traces.episode import Episode, Transcript, Turn

Teaching = Callable[[Episode, Transcript, Turn], str | None]
"""Name of the agent that learns from a turn; `None` means it is context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One agent, and the turns it learns from: those that fit every condition that is set.

    >>> alice = Trained(agent="alice", nodes=("critic",), seats=(0,))
    """

    agent: str
    adapters: tuple[str, ...] | None = None
    """Names of adapters, without a version or with one; the empty name is a turn of the base weights."""
    nodes: tuple[str, ...] | None = None
    seats: tuple[int, ...] | None = None
    teams: tuple[str, ...] | None = None
    """Names of teams."""
    not_teams: tuple[str, ...] = ()
    """Names of teams that it never learns from, whatever they wear."""

    def __call__(self, episode: Episode, transcript: Transcript, turn: Turn) -> str | None:
        """Its name if the turn is one of its own."""
        served = turn.adapter or ""
        team = next((seat.team for seat in episode.seats if seat.seat == transcript.seat), None)
        fits = (
            (self.adapters is None or served in self.adapters or served.partition("@")[0] in self.adapters)
            and (self.nodes is None or transcript.node in self.nodes)
            and (self.seats is None or transcript.seat in self.seats)
            and (self.teams is None or team in self.teams)
            and team not in self.not_teams
        )
        return self.agent if fits else None


def first_of(rules: Sequence[Teaching]) -> Teaching:
    """The rule that asks each of `rules` in turn."""

    def teaching(episode: Episode, transcript: Transcript, turn: Turn) -> str | None:
        return next((name for rule in rules if (name := rule(episode, transcript, turn)) is not None), None)

    return teaching
