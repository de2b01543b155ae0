"""What came of games, seat by seat: from played episodes to means with intervals.

A game's result is read off its episode alone: returns, valid moves and violations are facts about it, tokens stand in
its turns. Games that failed, or that money or time cut short, have no return; they are counted and nothing is made up
for them. In one game a seat's return says nothing about a team that would sit elsewhere, so results are by seat; a
team that held every seat equally often has one more, over all of them.

Intervals are of 95 % and treat games as independent:

- *Return*: the score interval for values in a known range (`orchestra.evaluation.intervals`); it assumes nothing but
  the range that the game declares. A game may give fifty equal returns, where a normal or t interval has width zero.
  Over all seats, the games that were dealt the same cards at every seating are one value, their mean: luck that every
  team had once cancels out, and the interval is narrower for it, as at duplicate bridge. Where nothing is dealt every
  game is a value.
- *Won, drawn, lost*: Clopper and Pearson's exact interval, over all seats too by deals where cards are dealt: what the
  same cards come to is alike. A deal that was won from one seat and drawn from the other is half of each, and then it
  is the score interval.
- *Valid moves*: Wilson's, which the score interval is for values of 0 and 1. Replies of one game are not quite
  independent, as the first that is no move is also the last.

Source:
    Clopper and Pearson 1934, Biometrika 26; Wilson 1927, JASA 22; the rest as `orchestra.evaluation.intervals` states.
    What is measured, and by seat: MARSHAL (arXiv:2510.15414).
    Deviation: MARSHAL reports "normalized game returns" and we know no formula for them. It is not the declared
    range: a first mover of its reaches 79.0 in Kuhn poker against an equilibrium, where nobody can expect more than
    -1/18 of a chip, which is 48.6 here. Our figures are to be compared with each other, not with its.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestra.environments.playing import FACT_MOVES, FACT_RETURN, FACT_VIOLATION
from orchestra.environments.protocol import Nature, check_seats
from orchestra.errors import BudgetError, CannotAfford, InputError, OutOfTime
from orchestra.evaluation.intervals import Estimate, score_interval, success_interval
from orchestra.traces.episode import Episode, Turn

CUT_SHORT = frozenset(kind.__name__ for kind in (BudgetError, CannotAfford, OutOfTime))
"""Types of the errors that say that money or time ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatGame:
    """One seat's part in one game."""

    came_to: float | None
    """Its return in the units of the game, without bonuses and penalties; `None` means the game has none."""
    moves: int
    """Replies that were valid moves; of a game that did not end they are not known and taken to be none."""
    violations: int
    """Replies that were no move: one at most."""
    input_tokens: int | None
    """Of all its calls; 0 for a program, `None` where a model did not say."""
    output_tokens: int | None
    """As `input_tokens`."""
    failed: bool
    """Whether the game ended because this seat's team failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameResult:
    """What came of one game, without what was said in it."""

    episode_id: str
    seats: tuple[SeatGame, ...]
    error: str | None
    """Why it did not end; `None` means it did."""
    error_type: str | None

    @classmethod
    def of(cls, episode: Episode, seats: int) -> "GameResult":
        """The result of a played episode.

        Args:
            episode: of `orchestra.environments.play`, as it was yielded or as it was folded from the store.
            seats: at the table; one that never came to move is not on the episode.
        """
        told = _Told(episode)
        failed = {seat.seat for seat in episode.seats if seat.error is not None} if episode.error is not None else set()
        turns: dict[int, list[Turn]] = {}
        for transcript in episode.transcripts:
            turns.setdefault(transcript.seat, []).extend(transcript.turns)
        parts = tuple(
            SeatGame(
                came_to=told.returns.get(seat),
                moves=told.moves.get(seat, 0),
                violations=len(told.violations.get(seat, ())),
                input_tokens=_sum(turn.usage.input_tokens for turn in turns.get(seat, ())),
                output_tokens=_sum(turn.usage.output_tokens for turn in turns.get(seat, ())),
                failed=seat in failed,
            )
            for seat in range(seats)
        )
        return cls(episode_id=episode.episode_id, seats=parts, error=episode.error, error_type=episode.error_type)

    @property
    def finished(self) -> bool:
        """Whether it was played to an end of the game's own, a violation included."""
        return self.error is None and all(seat.came_to is not None for seat in self.seats)

    @property
    def cut_short(self) -> bool:
        """Whether money or time ended it."""
        return self.error_type in CUT_SHORT


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatResult:
    """What a number of games came to for one team at one seat."""

    environment: str
    team: str
    seat: int | None
    """From 0; `None` means all seats, each held equally often."""
    games: int
    """Played to their end."""
    mean_return: Estimate | None
    """In the units of the game; `count` is games, or over all seats deals, where cards are dealt. `None` means that
    none was played to its end."""
    normalised: Estimate | None
    """The same on the scale of `normalised`, 0 to 100."""
    wins: int | None
    """Games in which nobody has as much; `None` in games that nobody can win: for one seat, or cooperative."""
    draws: int | None
    """Games in which nobody has more and somebody as much."""
    losses: int | None
    """Games in which somebody has more."""
    won: Estimate | None
    """Share of games that were won; `count` as of `mean_return`. `None` as `wins`, or when no game counts to it."""
    drawn: Estimate | None
    """As `won`."""
    lost: Estimate | None
    """As `won`."""
    replies: int
    """Of games played to their end: valid moves and violations."""
    valid: Estimate | None
    """Share of `replies` that were valid moves; `None` means there was none."""
    input_tokens: int | None
    """Of all games, those that did not end included; 0 for programs, `None` where a model did not say."""
    output_tokens: int | None
    """As `input_tokens`."""
    failures: int
    """Games that ended because this team failed, for want of money or time excepted."""

    def document(self) -> dict[str, object]:
        """As plain JSON."""
        return {
            "environment": self.environment,
            "team": self.team,
            "seat": self.seat,
            "games": self.games,
            "return": _interval(self.mean_return),
            "normalised": _interval(self.normalised),
            "wins": self.wins,
            "draws": self.draws,
            "losses": self.losses,
            "won": _interval(self.won),
            "drawn": _interval(self.drawn),
            "lost": _interval(self.lost),
            "replies": self.replies,
            "valid": _interval(self.valid),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "failures": self.failures,
        }


def normalised(value: float, nature: Nature) -> float:
    """A return on a scale from 0, the least the game can give, to 100, the most: `100 * (value - low) / (high - low)`.

    What it means depends on the game: an equal share is 50 where the range is symmetric, and in Kuhn poker an
    equilibrium is worth 48.6 to the first player and 51.4 to the second.

    Args:
        value: in the units of the game.
        nature: declares its range.

    Raises:
        ValueError: the range is empty or infinite.

    Source:
        The bounds are OpenSpiel's `min_utility` and `max_utility`.
        Deviation: from MARSHAL (arXiv:2510.15414), as the module says.
    """
    span = nature.high - nature.low
    if not (math.isfinite(span) and span > 0):
        raise ValueError(f"{nature.name!r} declares returns of {nature.low} to {nature.high}, which is no range")
    return 100.0 * (value - nature.low) / span


def check_range(nature: Nature) -> None:
    """Refuse an environment of whose returns no interval could be told, before anything is played.

    Raises:
        InputError: its least and its most are not finite numbers in this order.
    """
    if not (math.isfinite(nature.low) and math.isfinite(nature.high) and nature.low <= nature.high):
        raise InputError(
            f"{nature.name!r} declares returns of {nature.low:g} to {nature.high:g}; without two finite bounds no "
            "interval of a mean return can be told: let its nature declare the least and the most a seat can come to"
        )


def seat_results(games: Iterable[GameResult], nature: Nature, teams: Sequence[str]) -> tuple[SeatResult, ...]:
    """One result for each seat of a table.

    Args:
        games: played at it.
        nature: of the environment.
        teams: who held each seat, in their order.

    Raises:
        InputError: there are fewer or more teams than seats.
    """
    check_seats(nature, teams)
    played = list(games)
    found = []
    for seat, team in enumerate(teams):
        parts = [(game, seat) for game in played]
        found.append(_result(nature, team, seat, parts, [[part] for part in parts]))
    return tuple(found)


def results_over_seats(
    seatings: Sequence[tuple[Sequence[str], Sequence[GameResult]]], nature: Nature
) -> tuple[SeatResult, ...]:
    """One result for each team over all seats, of which it held each once.

    Args:
        seatings: who held each seat, no name twice, and the games played so; the n-th game of each was dealt the same
            cards, where there are any. A deal that was not played to its end at every seating does not count to the
            return.
        nature: of the environment.

    Raises:
        InputError: a seating has fewer or more teams than there are seats.
    """
    for held, _ in seatings:
        check_seats(nature, held)
    found = []
    for team in seatings[0][0]:
        held_by_team = [[(game, held.index(team)) for game in games] for held, games in seatings]
        parts = [part for played in held_by_team for part in played]
        dealt = zip(*held_by_team, strict=False)  # a seating may not have been come to
        deals = [[part] for part in parts] if nature.deterministic else [list(deal) for deal in dealt]
        found.append(_result(nature, team, None, parts, deals))
    return tuple(found)


Part = tuple[GameResult, int]
"""A game, and where the team sat in it."""


class _Told:
    """What facts say of one game, by seat; of a fact that was told again by a resumed run, the last counts."""

    def __init__(self, episode: Episode) -> None:
        self.returns: dict[int, float] = {}
        self.moves: dict[int, int] = {}
        self.violations: dict[int, set[int]] = {}
        for label in episode.labels:
            value = label.value
            if not isinstance(value, Mapping):
                continue
            seat = value.get("seat")
            if not isinstance(seat, int):
                continue
            if label.name == FACT_RETURN and isinstance(came_to := value.get("return"), int | float):
                self.returns[seat] = float(came_to)
            elif label.name == FACT_MOVES and isinstance(moves := value.get("moves"), int):
                self.moves[seat] = moves
            elif label.name == FACT_VIOLATION and isinstance(step := value.get("step"), int):
                self.violations.setdefault(seat, set()).add(step)


def _result(
    nature: Nature, team: str, seat: int | None, parts: Sequence[Part], deals: Sequence[Sequence[Part]]
) -> SeatResult:
    """The result of a team.

    Args:
        parts: all its games.
        deals: the same, those together that were dealt the same cards; each is one value of the return.
    """
    whole = [deal for deal in deals if all(game.finished for game, _ in deal)]
    ended = [(game, at) for game, at in parts if game.finished]
    mean_return = _mean_return([_mean_of(deal) for deal in whole], nature)
    nobody_wins = nature.cooperative or nature.seats == 1
    standings = None if nobody_wins else [_standing(game, at) for game, at in ended]
    won, drawn, lost = (None if nobody_wins else _rate(standing, whole) for standing in (1, 0, -1))
    moves = sum(game.seats[at].moves for game, at in ended)
    violations = sum(game.seats[at].violations for game, at in ended)
    return SeatResult(
        environment=nature.name,
        team=team,
        seat=seat,
        games=len(ended),
        mean_return=mean_return,
        normalised=None if mean_return is None else _rescaled(mean_return, nature),
        wins=None if standings is None else standings.count(1),
        draws=None if standings is None else standings.count(0),
        losses=None if standings is None else standings.count(-1),
        won=won,
        drawn=drawn,
        lost=lost,
        replies=moves + violations,
        valid=_share(moves, violations),
        input_tokens=_sum(game.seats[at].input_tokens for game, at in parts),
        output_tokens=_sum(game.seats[at].output_tokens for game, at in parts),
        failures=sum(game.seats[at].failed and not game.cut_short for game, at in parts),
    )


def _mean_of(deal: Sequence[Part]) -> float:
    return math.fsum(_came_to(game, at) for game, at in deal) / len(deal)


def _came_to(game: GameResult, seat: int) -> float:
    came_to = game.seats[seat].came_to
    assert came_to is not None, "the game was played to its end"
    return came_to


def _standing(game: GameResult, seat: int) -> int:
    """1 won, 0 drawn, -1 lost."""
    own = _came_to(game, seat)
    best = max(_came_to(game, other) for other in range(len(game.seats)) if other != seat)
    return (own > best) - (own < best)


def _rate(standing: int, deals: Sequence[Sequence[Part]]) -> Estimate | None:
    """Share of games that ended so, each deal being one value."""
    if not deals:
        return None
    return success_interval([sum(_standing(game, at) == standing for game, at in deal) / len(deal) for deal in deals])


def _mean_return(values_N: Sequence[float], nature: Nature) -> Estimate | None:
    if not values_N:
        return None
    bounds = min(nature.low, *values_N), max(nature.high, *values_N)  # sums of floats may lie beyond by a hair
    mean = math.fsum(values_N) / len(values_N)
    if bounds[0] == bounds[1]:
        return Estimate(mean, mean, mean, len(values_N))
    return Estimate(mean, *score_interval(values_N, low=bounds[0], high=bounds[1]), len(values_N))


def _rescaled(estimate: Estimate, nature: Nature) -> Estimate | None:
    if not nature.low < nature.high:
        return None
    low, high = normalised(estimate.low, nature), normalised(estimate.high, nature)
    return Estimate(normalised(estimate.mean, nature), low, high, estimate.count)


def _share(yes: int, no: int) -> Estimate | None:
    if yes + no == 0:
        return None
    return Estimate(yes / (yes + no), *score_interval([1.0] * yes + [0.0] * no, low=0.0, high=1.0), yes + no)


def _sum(counts: Iterable[int | None]) -> int | None:
    """Their sum; `None` when one of them is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _interval(estimate: Estimate | None) -> dict[str, object] | None:
    if estimate is None:
        return None
    return {"mean": estimate.mean, "interval_95": [estimate.low, estimate.high], "count": estimate.count}
