"""Questions of reasoning-gym as an environment: one seat, one question, one answer, scored by the data set's own rule.

A game's seed draws the question, so there is no end of them. An answer is given in the form of the games
(`orchestra.environments.Rules`); bonuses and penalties are theirs too. The library is loaded when one is opened.

Source:
    Stojanovski et al. 2025, "Reasoning Gym: Reasoning Environments for Reinforcement Learning with Verifiable Rewards",
    arXiv:2505.24760; package `reasoning-gym`, whose `create_dataset` and `score_answer` are used as they are.
    Deviation: a reply must have the form and nothing beside it, where the package takes the last answer found in a
    text; a score outside [0, 1] is cut to it, and an answer its rule fails on scores 0. Some of its rules run an answer
    as Python code; those data sets are opened with `trust=True` only.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from orchestra.environments.protocol import Nature, Outcome
from orchestra.environments.rules import Rules
from orchestra.errors import InputError, MissingExtra, Untrusted
from orchestra.plugins import closest

ENTRIES = 500
"""Questions of one instance of a data set, as many as the package makes by default; some mix kinds within it."""
SEEDS = 2**32
"""Seeds that the package knows; greater ones begin again."""
UNKNOWN = "unknown"
"""The example of an answer where the data set knows none."""
RUN_ANSWERS = frozenset(
    {
        "binary_matrix",
        "composite",
        "countdown",
        "intermediate_integration",
        "n_queens",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "spiral_matrix",
        "string_insertion",
    }
)
"""Data sets whose rule hands an answer to `eval`, by itself or within sympy's parser, or may hold one that does."""


class Question:
    """One question on the table.

    Args:
        environment: whose it is.
        entry: of the data set: `question`, `answer` and what scoring needs.
    """

    def __init__(self, environment: "ReasoningGym", entry: Mapping[str, Any]) -> None:
        self._environment, self._entry = environment, entry
        self._returns: float | None = None

    @property
    def to_move(self) -> int | None:
        """The one seat, until it has answered."""
        return 0 if self._returns is None else None

    @property
    def returns(self) -> tuple[float, ...]:
        """The score."""
        return (self._returns or 0.0,)

    def opening(self, seat: int) -> str:
        """How to answer."""
        think = "Think first, then answer. " if self._environment.rules.thinking else ""
        return (
            f"RESPONSE INSTRUCTIONS:\n{think}Answer the question, and reply in this form, with nothing before or after "
            f"it: {self._environment.form}\nA reply of any other form counts as wrong."
        )

    def observation(self, seat: int) -> str:
        """The question."""
        return f"QUESTION:\n{str(self._entry['question']).strip()}"

    def legal(self) -> tuple[str, ...]:
        """The data set's own answer, where it knows one: an example, for any answer may be given."""
        return () if self.to_move is None else (str(self._entry["answer"] or UNKNOWN).strip() or UNKNOWN,)

    def state_key(self, seat: int) -> str:
        """A digest of the question."""
        known = f"{self._environment.nature.name}\n{self._entry['question']}"
        return hashlib.sha256(known.encode()).hexdigest()[:16]

    def answer(self, action: str) -> str:
        """A reply that answers `action`."""
        return self._environment.rules.written(action)

    def reply(self, text: str | None, tokens: int | None = None) -> Outcome:
        """Score a reply; one without the form scores 0 and is penalised."""
        assert self.to_move is not None, "the question is answered"
        rules, answer = self._environment.rules, self._environment.rules.inside(text)
        if answer is None:
            self._returns = 0.0
            why = f"the reply is not of the form {self._environment.form}"
            return Outcome(action=None, rewards=(-rules.violation,), violation=why)
        self._returns = self._environment.score(answer, self._entry)
        reward = rules.scale * self._returns + rules.format_bonus + rules.length_reward(tokens)
        return Outcome(action=answer, rewards=(reward,))


class ReasoningGym:
    """A data set of reasoning-gym.

    Args:
        name: as it is opened.
        kind: the package's name of the data set.
        config: its own settings.
        rules: how replies are read and rewarded.

    Raises:
        InputError: the data set does not take such settings.
    """

    role = "You are an agent that answers questions exactly."

    def __init__(self, name: str, kind: str, config: Mapping[str, Any], rules: Rules) -> None:
        self._kind, self._config, self.rules = kind, dict(config), rules
        self.nature = Nature(
            name=name,
            seats=1,
            low=0.0,
            high=1.0,
            zero_sum=False,
            cooperative=False,
            deterministic=False,
            steps=1,
            open_answers=True,
            draws=False,
        )
        self.form = rules.form.replace("your action", "your answer")
        """Of a reply, as a seat is told it."""
        self._of_seed = functools.lru_cache(maxsize=8)(self._made)
        self._of_seed(0)

    def begin(self, seed: int) -> Question:
        """A question; the same seed draws the same."""
        place = seed % ENTRIES
        first = (seed - place) % SEEDS  # the package draws an entry by its data set's seed plus its place
        return Question(self, self._of_seed(first)[place])

    def score(self, answer: str, entry: Mapping[str, Any]) -> float:
        """What the data set's rule gives an answer, in [0, 1]."""
        try:
            found = float(self._of_seed(0).score_answer(answer, entry))
        except Exception:  # a stranger's rule, given any text at all: what it fails on is no right answer
            return 0.0
        return min(1.0, max(0.0, found))

    def _made(self, seed: int) -> Any:
        gym = _gym()
        try:
            return gym.create_dataset(self._kind, **{"size": ENTRIES, **self._config, "seed": seed})
        except (AssertionError, TypeError, ValueError) as cause:
            raise InputError(f"{self.nature.name!r} cannot be made with {self._config}: {cause}") from cause


def reasoning_gym(
    kind: str, *, config: Mapping[str, Any] | None = None, trust: bool = False, **options: Any
) -> ReasoningGym:
    """A data set of reasoning-gym: `reasoning-gym:chain_sum`.

    Args:
        kind: the package's name of it.
        config: its own settings, such as `{"max_terms": 3}`; `size` and `seed` are the environment's.
        trust: let the data set's rule run answers as code, where it is one that does.
        options: of `orchestra.environments.Rules`; a violation costs 1 unless said, the most a question is worth.

    Raises:
        MissingExtra: the package is not installed.
        Untrusted: its rule would run what a model answers.
        InputError: there is no such data set, or it does not take such settings.
    """
    names = list(_gym().factory.DATASETS)
    if kind not in names:
        raise InputError(f"reasoning-gym has no data set {kind!r}; {closest(kind, names)}")
    if kind in RUN_ANSWERS and not trust:
        raise Untrusted(
            f"reasoning-gym scores {kind!r} by running answers as Python code, whatever a model writes there; "
            f"open it with trust=True where that can do no harm"
        )
    given = dict(config or {})
    if {"size", "seed"} & given.keys():
        raise InputError("a game's seed draws its question; leave size and seed out of config")
    return ReasoningGym(f"reasoning-gym:{kind}", kind, given, replace(Rules(violation=1.0), **options))


def _gym() -> Any:
    try:
        import_module("reasoning_gym.factory")
        return import_module("reasoning_gym")
    except ModuleNotFoundError as missing:
        raise MissingExtra("reasoning-gym", "a data set of reasoning-gym") from missing
