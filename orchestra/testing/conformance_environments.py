"""The contract of `orchestra.environments.protocol`, run against an environment: what it declares must be so.

Use it on an environment of one's own as the library does on its: `check_environment(environment)`. It plays games of
random moves, plays them again, breaks the rules in them, and plays deals side by side that a seat cannot tell apart.
Each promise is one function that says what is broken; all of them are run, and everything broken is reported at once.
Only where seats or range are not what is declared, the rest is not looked at.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from orchestra.environments.protocol import Environment, Outcome, Table
from orchestra.testing.conformance import NotConforming

CONTRACT = "orchestra.environments.protocol"
CLOSE = 1e-6
"""Numbers that differ by less are equal."""
DEALS_PER_GAME = 12
"""Seeds that are looked through for deals that a seat cannot tell apart, for each game that is played."""
MOST_LINES = 24
"""Of a report."""


@dataclass(frozen=True, slots=True)
class Step:
    """One move of a game, and what its seat was told before it."""

    seat: int
    told: str
    """Before its first move the opening too."""
    keys: tuple[str, ...]
    """Of every seat."""
    legal: tuple[str, ...]
    action: str
    outcome: Outcome


@dataclass(slots=True)
class Record:
    """One game of legal moves."""

    seed: int
    steps: list[Step] = field(default_factory=list)
    stuck: str | None = None
    """Why it could not be played to its end; `None` means it was."""
    returns: tuple[float, ...] = ()

    @property
    def moves(self) -> list[str]:
        """In the order they were made."""
        return [step.action for step in self.steps]


@dataclass(frozen=True, slots=True)
class Trial:
    """What the promises are checked on."""

    environment: Environment
    records: tuple[Record, ...]
    seed: int
    bonuses: bool
    """Whether rewards hold more than the game's own."""


def check_environment(environment: Environment, *, games: int = 12, seed: int = 0, bonuses: bool = True) -> None:
    """Do nothing when `environment` keeps every promise.

    Args:
        environment: what is checked.
        games: how many are played; most promises are checked in each.
        seed: of their deals and their moves.
        bonuses: rewards hold bonuses and penalties beside the game's own; `False` also checks that those of a seat add
            up to its return.

    Raises:
        NotConforming: with every broken promise.
        Exception: whatever the environment raises.
    """
    records = tuple(_played(environment, seed + number, random.Random(seed + number)) for number in range(games))
    trial = Trial(environment, records, seed, bonuses)
    broken: list[str] = []
    for promise in PROMISES:
        broken += [line for line in promise(trial) if line not in broken]
        if broken and promise in FIRST:
            break
    if broken:
        more = [f"and {len(broken) - MOST_LINES} more"] if len(broken) > MOST_LINES else []
        name = getattr(environment.nature, "name", repr(environment))
        raise NotConforming(name, [*broken[:MOST_LINES], *more], CONTRACT)


def declares_its_nature(trial: Trial) -> Iterator[str]:
    """Name, seats, range and steps are sensible and always the same, and there is a role."""
    environment, nature = trial.environment, trial.environment.nature
    if nature != environment.nature:
        yield "its nature changes"
    if not nature.name or not environment.role.strip():
        yield "it has no name or no role"
    if nature.seats < 1 or nature.steps < 1:
        yield f"it has {nature.seats} seats and {nature.steps} steps; expected at least one of each"
    if not (math.isfinite(nature.low) and math.isfinite(nature.high) and nature.low <= nature.high):
        yield f"its returns are said to be in [{nature.low}, {nature.high}]"
    if not isinstance(environment.begin(trial.seed), Table):
        yield "its table lacks a member of the protocol"


def comes_to_an_end(trial: Trial) -> Iterator[str]:
    """There is a move while somebody has to move, none afterwards, and no game is longer than declared."""
    for record in trial.records:
        if record.stuck is not None:
            yield record.stuck
        if not record.steps:
            yield f"the game of seed {record.seed} is over before it begins"


def knows_its_seats(trial: Trial) -> Iterator[str]:
    """Whoever is to move exists and is told something; rewards and returns are for every seat."""
    seats = trial.environment.nature.seats
    for record in trial.records:
        for step in record.steps:
            if not 0 <= step.seat < seats:
                yield f"seat {step.seat} has to move, of {seats}"
            if len(step.outcome.rewards) != seats:
                yield f"a move has {len(step.outcome.rewards)} rewards for {seats} seats"
            if not step.told.strip() or not all(step.keys):
                yield f"seat {step.seat} is told nothing, or its state has no key"
        if len(record.returns) != seats:
            yield f"there are {len(record.returns)} returns for {seats} seats"


def takes_its_own_answers(trial: Trial) -> Iterator[str]:
    """`answer` of every legal move, each listed once, is a reply that makes it."""
    for record in trial.records:
        for step in record.steps:
            if len(set(step.legal)) < len(step.legal):
                yield f"a move is listed twice: {', '.join(step.legal)}"
            if not step.outcome.valid:
                yield f"the answer for {step.action!r} is refused: {step.outcome.violation}"
            elif step.outcome.action != step.action:
                yield f"the answer for {step.action!r} made the move {step.outcome.action!r}"


def returns_what_it_declares(trial: Trial) -> Iterator[str]:
    """Returns are in range; those of all seats are together zero, or all alike, where that is declared."""
    nature = trial.environment.nature
    for record in (record for record in trial.records if record.stuck is None):
        returns = record.returns
        if not all(nature.low - CLOSE <= value <= nature.high + CLOSE for value in returns):
            yield f"returns {returns} are outside [{nature.low}, {nature.high}]"
        if nature.zero_sum and abs(math.fsum(returns)) > CLOSE:
            yield f"it is said to be zero-sum and returned {returns}"
        if nature.cooperative and max(returns) - min(returns) > CLOSE:
            yield f"it is said to be cooperative and returned {returns}"


def rewards_what_it_returns(trial: Trial) -> Iterator[str]:
    """Without bonuses, what a seat earned move by move adds up to its return."""
    if trial.bonuses:
        return
    for record in (record for record in trial.records if record.stuck is None):
        earned = tuple(map(math.fsum, zip(*(step.outcome.rewards for step in record.steps), strict=True)))
        if any(abs(sum_ - value) > CLOSE for sum_, value in zip(earned, record.returns, strict=False)):
            yield f"rewards add up to {earned} in a game that returned {record.returns} (seed {record.seed})"


def repeats_a_seed(trial: Trial) -> Iterator[str]:
    """The same seed and moves give the same game; where nothing is drawn, the same moves do."""
    for record in trial.records:
        again = _repeated(trial.environment, record, record.seed)
        if again != record:
            yield f"seed {record.seed} and the same moves gave {_difference(record, again)}"
    if trial.environment.nature.deterministic:
        for record, other in pairwise(trial.records):
            again = _repeated(trial.environment, record, other.seed)
            again.seed = record.seed
            if again != record:
                yield f"nothing is said to be drawn, and another seed gave {_difference(record, again)}"


def ends_on_what_is_no_move(trial: Trial) -> Iterator[str]:
    """A reply that is nothing, malformed, or no legal move ends the game with a violation and gains nothing."""
    nature = trial.environment.nature
    for record in trial.records:
        for made in sorted({0, len(record.steps) // 2, len(record.steps) - 1} - {-1}):
            for what, broken in _replies_that_are_none(nature.open_answers):
                table = _after(trial.environment, record, made)
                seat = table.to_move
                if seat is None or not table.legal():
                    continue
                outcome = table.reply(broken(table))
                if outcome.valid or outcome.action is not None:
                    yield f"{what} is taken as the move {outcome.action!r}"
                if table.to_move is not None or table.legal():
                    yield f"the game goes on after {what}"
                if not outcome.valid and any(reward > CLOSE for reward in outcome.rewards):
                    yield f"somebody gains by {what}: {outcome.rewards}"
                if not outcome.valid and table.returns[seat] > nature.low + CLOSE:
                    yield f"after {what} a seat returns {table.returns[seat]}, above the least there is, {nature.low}"


def tells_what_is_known_alone(trial: Trial) -> Iterator[str]:
    """Deals that a seat cannot tell apart look alike to it, and have the same key, for as long as that is so."""
    count = max(2, len(trial.records))
    for one, other in _twins(trial.environment, range(trial.seed, trial.seed + count * DEALS_PER_GAME), count):
        yield from _side_by_side(trial.environment, one, other)


def says_it_again(trial: Trial) -> Iterator[str]:
    """Asking a table changes nothing: it says the same again."""
    for record in trial.records:
        table = _after(trial.environment, record, len(record.steps) // 2)
        seat = table.to_move
        if seat is None:
            continue
        said = [
            (table.opening(seat), table.observation(seat), table.legal(), table.state_key(seat), table.returns)
            for _ in range(2)
        ]
        if said[0] != said[1]:
            yield f"asked twice before one move, seat {seat} is told something else"


def _played(environment: Environment, seed: int, rng: random.Random) -> Record:
    """A game of random legal moves."""
    table, record = environment.begin(seed), Record(seed)
    while (seat := table.to_move) is not None:
        if len(record.steps) == environment.nature.steps:
            record.stuck = f"the game of seed {seed} goes on after {environment.nature.steps} moves"
            break
        if not table.legal():
            record.stuck = f"seat {seat} has to move and there is no legal move (seed {seed})"
            break
        _step(table, record, seat, rng.choice(table.legal()))
    if record.stuck is None and table.legal():
        record.stuck = f"there are legal moves after the end of the game of seed {seed}"
    record.returns = table.returns
    return record


def _step(table: Table, record: Record, seat: int, action: str) -> None:
    first = all(step.seat != seat for step in record.steps)
    told = (f"{table.opening(seat)}\n\n" if first else "") + table.observation(seat)
    keys, legal = tuple(map(table.state_key, range(len(table.returns)))), table.legal()
    record.steps.append(Step(seat, told, keys, legal, action, table.reply(table.answer(action))))


def _repeated(environment: Environment, record: Record, seed: int) -> Record:
    """The game that the moves of `record` give with `seed`, as far as they can be made."""
    table, again = environment.begin(seed), Record(seed, stuck=record.stuck)
    for action in record.moves:
        seat = table.to_move
        if seat is None:
            break
        _step(table, again, seat, action)
    again.returns = table.returns
    return again


def _difference(one: Record, other: Record) -> str:
    for number, (first, second) in enumerate(zip(one.steps, other.steps, strict=False)):
        for what in ("seat", "told", "keys", "legal", "outcome"):
            if getattr(first, what) != getattr(second, what):
                return f"another {what} at move {number}: {getattr(first, what)!r}, then {getattr(second, what)!r}"
    return f"{len(one.steps)} moves returning {one.returns}, then {len(other.steps)} returning {other.returns}"


def _after(environment: Environment, record: Record, moves: int) -> Table:
    table = environment.begin(record.seed)
    for action in record.moves[:moves]:
        table.reply(table.answer(action))
    return table


def _replies_that_are_none(open_answers: bool) -> Sequence[tuple[str, Callable[[Table], str | None]]]:
    """Replies that are no moves, by what they are called; open answers may have any form but nothing at all."""
    nothing: tuple[str, Callable[[Table], str | None]] = ("no reply", lambda table: None)
    if open_answers:
        return (nothing,)
    return (
        nothing,
        ("an empty reply", lambda table: ""),
        ("prose", lambda table: "I cannot decide."),
        ("a move among other words", lambda table: f"My move is {table.answer(table.legal()[0])}, I think."),
        ("a move that is not legal", lambda table: table.answer(f"no {' or '.join(table.legal())}")),
    )


def _twins(environment: Environment, seeds: Sequence[int], count: int) -> Iterator[tuple[int, int]]:
    """Pairs of seeds whose deals look alike at first to one seat: as it is told, or by its key."""
    alike: dict[tuple[str, int, str], list[int]] = {}
    for seed in seeds:
        table = environment.begin(seed)
        if (mover := table.to_move) is not None:
            alike.setdefault(("told", mover, table.opening(mover) + table.observation(mover)), []).append(seed)
        for seat in range(environment.nature.seats):
            alike.setdefault(("key", seat, table.state_key(seat)), []).append(seed)
    groups = [pair for found in alike.values() for pair in pairwise(found)]
    yield from random.Random(seeds[0]).sample(groups, min(len(groups), 4 * count))


def _side_by_side(environment: Environment, one: int, other: int) -> Iterator[str]:
    """What is wrong in two games of the same random moves, for every seat as long as it cannot tell them apart."""
    tables, rng = (environment.begin(one), environment.begin(other)), random.Random(one)
    records, seats = (Record(one), Record(other)), range(environment.nature.seats)
    same_keys, same_texts = [True] * len(seats), [True] * len(seats)
    while (seat := tables[0].to_move) is not None and seat == tables[1].to_move:
        moves = [move for move in tables[0].legal() if move in tables[1].legal()]
        if not moves or len(records[0].steps) > environment.nature.steps:
            return
        action = rng.choice(moves)
        for table, record in zip(tables, records, strict=True):
            _step(table, record, seat, action)
        first, second = (record.steps[-1] for record in records)
        same_keys = [same_keys[at] and first.keys[at] == second.keys[at] for at in seats]
        same_texts[seat] = same_texts[seat] and first.told == second.told
        where = f"(seeds {one} and {other}, move {len(records[0].steps) - 1})"
        if same_keys[seat] and (first.told, first.legal) != (second.told, second.legal):
            yield f"seat {seat} is told different things in states with the same keys {where}"
        if same_texts[seat] and first.keys[seat] != second.keys[seat]:
            yield f"seat {seat} was told the same in states with different keys {where}"


PROMISES: tuple[Callable[[Trial], Iterator[str]], ...] = (
    declares_its_nature,
    knows_its_seats,
    comes_to_an_end,
    takes_its_own_answers,
    returns_what_it_declares,
    rewards_what_it_returns,
    repeats_a_seed,
    ends_on_what_is_no_move,
    tells_what_is_known_alone,
    says_it_again,
)
"""Every promise of the protocol, in the order they are checked."""

FIRST = (declares_its_nature, knows_its_seats)
"""Those that the others rely on."""
