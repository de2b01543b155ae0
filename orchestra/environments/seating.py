"""Who sits at the table: from what people write to teams at seats, each under a name that nobody else there has.

A team is an agent graph or its file, a program of `orchestra.environments.opponents`, or a model, which then plays
with the plain player. Whatever is wrong with one is said before a run begins.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graphs import AgentGraph, Sampling
from graphs.identity import content_hash
from orchestra import models, plugins
from orchestra.environments.opponents import KNOWN, Opponent, RandomPlayer, opponent
from orchestra.environments.playing import Team, player
from orchestra.environments.protocol import Environment
from orchestra.errors import InputError
from orchestra.execution.runner import open_team

Given = str | Path | Team
"""How a team may be given: itself, or the text that `orchestra play --teams` takes."""
Started = Callable[[str, int], Callable[[], None]]
"""Takes a title and a number of steps; what it returns is called after each step."""

FILES = (".yaml", ".yml", ".json")
"""How a team's file ends."""
PROGRAMS = frozenset(known.partition(":")[0] for known in KNOWN)


@dataclass(frozen=True, slots=True)
class Sitting:
    """A team at the table."""

    name: str
    team: Team
    folder: Path | None = None
    """Where its tools' code is looked up; `None` means it has no file."""

    @property
    def identity(self) -> str:
        """Equal for teams that play the same."""
        return content_hash(self.team) if isinstance(self.team, AgentGraph) else self.team.name


def seated(teams: Sequence[Given], place: Environment, *, sampling: Sampling, on_start: Started) -> tuple[Sitting, ...]:
    """Who holds each seat of `place`.

    Args:
        teams: one for each seat, or one that holds them all.
        sampling: of teams that are a model.
        on_start: told of programs that have to solve the game first.

    Raises:
        InputError: there are too few or too many, or one is no team, or cannot play this.
    """
    seats = place.nature.seats
    if len(teams) not in (1, seats):
        raise InputError(
            f"{place.nature.name!r} has {seats} seats, and {len(teams)} teams were given; "
            f"give one for each seat, or one that holds them all"
        )
    solving_last = sorted(range(len(teams)), key=lambda at: str(teams[at]).partition(":")[0] == "cfr")
    found = {at: _sitting(teams[at], place, sampling, on_start) for at in solving_last}
    held = [found[at] for at in range(len(teams))]
    if len({one.name for one in held}) < len(held):
        held = [replace(one, name=f"{number}: {one.name}") for number, one in enumerate(held, 1)]
    return tuple(held * (seats // len(held)))


def is_model(given: Given) -> bool:
    """Whether a team is given as the name of a model."""
    return isinstance(given, str) and "/" in given and not is_file(given)


def is_file(given: Given) -> bool:
    """Whether a team is given as the path of its file."""
    if not isinstance(given, str | Path) or Path(given).suffix.lower() not in FILES:
        return False
    return Path(given).exists() or str(given).partition("/")[0] not in plugins.names(models.GROUP)


def _sitting(given: Given, place: Environment, sampling: Sampling, on_start: Started) -> Sitting:
    if isinstance(given, AgentGraph):
        return Sitting(given.name, given)
    if isinstance(given, Opponent):
        _check_program(given.name if isinstance(given, RandomPlayer) else None, place)
        return Sitting(given.name, given)
    if is_file(given):
        graph, folder = open_team(given)
        return Sitting(Path(given).stem, graph, folder)
    text = str(given)
    if text.partition(":")[0] in PROGRAMS:
        program = _program(text, place, on_start)
        return Sitting(program.name, program)
    if is_model(given):
        name = text.partition("@http")[0]
        return Sitting(name, player(place, model=text, sampling=sampling, name=name))
    raise InputError(
        f"no team {text!r}{_hint(text)}; a team is a file ({', '.join(FILES)}), a program ({', '.join(KNOWN)}) "
        f"or a model such as local/smollm2-135m-instruct"
    )


def _hint(text: str) -> str:
    kind, colon, number = text.partition(":")
    near = difflib.get_close_matches(kind, PROGRAMS, n=1)
    return f" (did you mean {near[0] + colon + number!r}?)" if near else ""


def _check_program(name: str | None, place: Environment) -> None:
    """Refuse one of our programs where all it knows of the moves is the right answer."""
    if name is not None and place.nature.open_answers:
        raise InputError(
            f"{name} would copy the right answer at {place.nature.name!r}, which shows programs no other, and score "
            f"all there is; seat a model or a team (demonstrations of right answers may be made with it)"
        )


def _program(text: str, place: Environment, on_start: Started) -> Opponent:
    _check_program(text, place)
    if text.partition(":")[0] != "cfr":
        return opponent(text, place)
    done = on_start(f"{text} solves {place.nature.name}", 1)  # which takes a quarter of a minute for Leduc hold'em
    program = opponent(text, place)
    done()
    return program
