"""Which recorded episodes are learnt from, and how many of them each filter left.

A filter looks at a transcript: what one node did at one seat. An episode is kept as long as one of its transcripts is,
and it is given with those alone, so whoever learns from it learns from nothing else.
"""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError, field_validator, model_validator

from graphs.model import Value
from orchestra.errors import InputError
from orchestra.plugins import closest
from orchestra.traces import names
from orchestra.traces.episode import Episode, Transcript


class Filters(Value):
    """What is looked for; everything that is set must be true."""

    runs: tuple[str, ...] = ()
    """Ids of runs, or beginnings that only one has; empty means all."""
    teams: tuple[str, ...] = ()
    """Names of the teams whose seats are looked at; empty means all."""
    nodes: tuple[str, ...] = ()
    """Names of nodes, or of another application's agents; empty means all."""
    models: tuple[str, ...] = ()
    """As they called themselves when they answered, an adapter left out or not; empty means all."""
    min_reward: float | None = None
    """Least reward of the seat, or for want of one score of the episode; `None` means any, or none at all."""
    max_reward: float | None = None
    """Largest; `None` means any, or none at all."""
    scored: bool = False
    """Leave out what has neither a reward nor a score."""
    since: float | None = None
    """Unix seconds, or a date: episodes that began then or later."""
    until: float | None = None
    """Unix seconds, or a date: episodes that began before."""
    demonstrations: bool = False
    """Keep the turns that programs wrote, for a warm-up to imitate."""

    @field_validator("runs", "teams", "nodes", "models", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("since", "until", mode="before")
    @classmethod
    def _moment(cls, given: Any) -> Any:
        if isinstance(given, datetime.date):  # as TOML has them
            given = given.isoformat()
        if not isinstance(given, str):
            return given
        moment = datetime.datetime.fromisoformat(given)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()

    @model_validator(mode="after")
    def _possible(self) -> "Filters":
        for low, high in ((self.min_reward, self.max_reward), (self.since, self.until)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"nothing is both at least {low:g} and at most {high:g}")
        return self

    @property
    def chooses(self) -> bool:
        """Whether it may keep some transcripts of an episode and not others."""
        return bool(self.teams or self.nodes or self.models) or self.asks_reward

    @property
    def asks_reward(self) -> bool:
        """Whether it matters how well an episode went."""
        return self.scored or (self.min_reward, self.max_reward) != (None, None)

    def begun(self, started_ns: int | None) -> bool:
        """Whether an episode that began then is looked for."""
        seconds = (started_ns or 0) / 1e9
        return (self.since is None or seconds >= self.since) and (self.until is None or seconds < self.until)


def filters_of(**settings: Any) -> Filters:
    """The filters that `settings` say.

    Raises:
        InputError: one is not understood.
    """
    try:
        return Filters(**settings)
    except ValidationError as cause:
        told = (f"{'.'.join(map(str, error['loc'])) or 'filters'}: {error['msg']}" for error in cause.errors())
        raise InputError(f"the filters of recorded episodes: {'; '.join(told)}") from cause


@dataclass(frozen=True, slots=True)
class Look:
    """An episode as a filter sees it."""

    episode: Episode
    """Its content may be left out."""
    captured: bool
    """Whether token ids of any of its calls were kept."""


@dataclass(slots=True)
class _Step:
    """One filter, and how many episodes it left."""

    said: str
    """As a story tells it; empty where it leaves everything."""
    keeps: Callable[[Look, Transcript], bool]
    left: int = 0


class Sieve:
    """Filters at work on one episode after another.

    Args:
        filters: which.
    """

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self.dates = _dates(filters)
        """What is asked of an episode's beginning; empty where nothing is."""
        self._steps = list(_steps(filters))
        self._names: dict[str, set[str]] = {"team": set(), "node": set(), "model": set()}
        self._rewards: list[float] = []
        """Least and largest."""
        self.found = 0
        """Episodes looked at."""

    def kept(self, look: Look) -> tuple[Transcript, ...]:
        """The transcripts of an episode that every filter leaves; none when the episode is not looked for."""
        self.found += 1
        left = look.episode.transcripts
        for number, step in enumerate(self._steps):
            if number == _NAMED_FROM:
                self._note(look.episode, left)
            left = tuple(transcript for transcript in left if step.keeps(look, transcript))
            if not left:
                return ()
            step.left += 1
        return left

    def check_names(self) -> None:
        """Refuse names that no episode had.

        Raises:
            InputError: naming the closest.
        """
        if not self._steps[_NAMED_FROM - 1].left:
            return  # there is nothing a name could be of
        chosen = {"team": self._filters.teams, "node": self._filters.nodes, "model": self._filters.models}
        for kind, wanted in chosen.items():
            for name in wanted:
                if name not in self._names[kind]:
                    raise InputError(f"no recorded turn is of {kind} {name!r}; {closest(name, self._names[kind])}")

    def story(self) -> str:
        """How many episodes each filter left, in their order."""
        told = [f"{step.left:,} {step.said}" for step in self._steps if step.said]
        if self._filters.asks_reward and not self._steps[-1].left and self._rewards:
            told[-1] += f" (the others' are from {self._rewards[0]:g} to {self._rewards[1]:g})"
        return ", ".join(told)

    def _note(self, episode: Episode, transcripts: tuple[Transcript, ...]) -> None:
        for transcript in transcripts:
            self._names["node"].add(transcript.node)
            self._names["team"].update(filter(None, [_team(episode, transcript)]))
            self._names["model"].update(name for turn in transcript.turns for name in called(turn.model))
            if (value := reward_of(episode, transcript)) is not None:
                low, high = self._rewards or (value, value)
                self._rewards = [min(low, value), max(high, value)]


_NAMED_FROM = 2
"""Steps before those that choose by name: what they leave has the names that there are."""


def _steps(filters: Filters) -> Iterator[_Step]:
    yield _Step(_dates(filters), lambda look, transcript: filters.begun(look.episode.started_ns))
    yield _Step("with turns that can teach", lambda look, transcript: _teaches(look, transcript, filters))
    if filters.teams:
        yield _Step(
            f"at a seat of {_listed('team', filters.teams)}",
            lambda look, transcript: _team(look.episode, transcript) in filters.teams,
        )
    if filters.nodes:
        yield _Step(
            f"with turns of {_listed('node', filters.nodes)}", lambda look, transcript: transcript.node in filters.nodes
        )
    if filters.models:
        yield _Step(
            f"with turns of {_listed('model', filters.models)}",
            lambda look, transcript: all(set(called(turn.model)) & set(filters.models) for turn in transcript.turns),
        )
    if filters.asks_reward:
        yield _Step(_bounds(filters), lambda look, transcript: _rewarded(look, transcript, filters))


def reward_of(episode: Episode, transcript: Transcript) -> float | None:
    """What a transcript came to: its seat's reward, else the episode's score, else what its own turns earned."""
    seat = next((seat for seat in episode.seats if seat.seat == transcript.seat), None)
    if seat is not None and seat.reward is not None:
        return seat.reward
    if episode.score is not None:
        return episode.score
    earned = [turn.reward for turn in transcript.turns if turn.reward is not None]
    return sum(earned) if earned else None


def called(model: str | None) -> tuple[str, ...]:
    """What a model may be chosen by: its name, and its name without the adapter.

    >>> called("local/smollm2+critic@3f2a")
    ('local/smollm2+critic@3f2a', 'local/smollm2')
    """
    return () if model is None else tuple(dict.fromkeys((model, model.partition("+")[0])))


def _teaches(look: Look, transcript: Transcript, filters: Filters) -> bool:
    """Whether a model spoke; in an episode that failed, whether anything of it was captured, too."""
    spoke = any(filters.demonstrations or turn.provider != names.DEMONSTRATION for turn in transcript.turns)
    return spoke and (look.episode.error is None or look.captured)


def _rewarded(look: Look, transcript: Transcript, filters: Filters) -> bool:
    value = reward_of(look.episode, transcript)
    if value is None:
        return False
    return (filters.min_reward is None or value >= filters.min_reward) and (
        filters.max_reward is None or value <= filters.max_reward
    )


def _team(episode: Episode, transcript: Transcript) -> str | None:
    return next((seat.team for seat in episode.seats if seat.seat == transcript.seat), None)


def _listed(kind: str, names: tuple[str, ...]) -> str:
    return f"{kind} {' or '.join(map(repr, names))}"


def _dates(filters: Filters) -> str:
    since = "" if filters.since is None else f" on or after {_date(filters.since)}"
    until = "" if filters.until is None else f" before {_date(filters.until)}"
    return f"begun{since}{' and' if since and until else ''}{until}" if since or until else ""


def _date(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%d}" if not seconds % 86_400 else f"{moment:%Y-%m-%d %H:%M} UTC"


def _bounds(filters: Filters) -> str:
    low = "" if filters.min_reward is None else f" of at least {filters.min_reward:g}"
    high = "" if filters.max_reward is None else f" of at most {filters.max_reward:g}"
    return f"with a reward{low}{' and' if low and high else ''}{high}"
