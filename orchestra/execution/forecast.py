"""What a run would take, before anything is called: calls, tokens and cash, each from the least to the most.

A forecast is kept with the run it was made for (the fact `FORECAST`), and compared with what the run came to.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from orchestra.ledger import nano, show_usd, usd
from orchestra.traces.records import Fact

FORECAST = "forecast"
"""Name of the fact that holds a run's forecast."""


@dataclass(frozen=True, slots=True)
class Range:
    """An amount that is not known yet: 95 of 100 such amounts are within it."""

    lower: int
    expected: int
    upper: int

    def __post_init__(self) -> None:
        if not 0 <= self.lower <= self.expected <= self.upper:
            raise ValueError(f"a range goes from its lower end to its upper, got {self}")

    def __add__(self, other: "Range") -> "Range":
        return Range(self.lower + other.lower, self.expected + other.expected, self.upper + other.upper)

    def holds(self, amount: int) -> bool:
        """Whether `amount` is within it."""
        return self.lower <= amount <= self.upper

    def document(self) -> dict[str, int]:
        """As plain numbers."""
        return {"lower": self.lower, "expected": self.expected, "upper": self.upper}


_COUNTS = ("model_calls", "tool_calls", "input_tokens", "output_tokens")
_WORDS = {
    "model_calls": "model calls",
    "tool_calls": "tool calls",
    "input_tokens": "prompt tokens",
    "output_tokens": "reply tokens",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Calls, tokens and cash of a run in which nothing fails."""

    model_calls: Range
    tool_calls: Range
    input_tokens: Range
    output_tokens: Range
    list_nano: Range | None
    """What the calls cost uncached, in nano-USD; `None` when a model's price is not known."""
    basis: str
    """What the lengths of replies were taken from."""
    models: tuple[str, ...]

    def __add__(self, other: "Forecast") -> "Forecast":
        both_priced = self.list_nano is not None and other.list_nano is not None
        return Forecast(
            **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS},
            list_nano=self.list_nano + other.list_nano if both_priced else None,  # type: ignore[operator]
            basis="; ".join(dict.fromkeys((self.basis, other.basis))),
            models=tuple(dict.fromkeys((*self.models, *other.models))),
        )

    def document(self) -> dict[str, Any]:
        """As one JSON document; money in USD."""
        cash = self.list_nano
        ends = None if cash is None else {end: str(usd(amount)) for end, amount in cash.document().items()}
        counts = {name: getattr(self, name).document() for name in _COUNTS}
        return {"models": list(self.models), "basis": self.basis, **counts, "list_usd": ends}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The forecast whose `document` it is."""
        cash = document["list_usd"]
        return cls(
            **{name: Range(**document[name]) for name in _COUNTS},
            list_nano=None if cash is None else Range(**{end: nano(text) for end, text in cash.items()}),
            basis=document["basis"],
            models=tuple(document["models"]),
        )

    def lines(self) -> tuple[str, ...]:
        """For people: one line a quantity, expected first."""
        rows = [(_WORDS[name], _shown(getattr(self, name))) for name in _COUNTS]
        cash = "unknown: a model has no price" if self.list_nano is None else _shown(self.list_nano, show_usd)
        rows.append(("cash", cash))
        named = [("models", ", ".join(self.models) or "none"), *rows, ("replies", self.basis)]
        return (*(f"{label:<15}{text}" for label, text in named), "nothing was called")

    def brief(self) -> str:
        """In a few words: model calls and cash."""
        calls = f"{_span(self.model_calls)} call{'s' * (self.model_calls.upper != 1)}"
        return calls if self.list_nano is None else f"{calls}, {_span(self.list_nano, show_usd)}"

    def against(self, actual: "Actual") -> dict[str, Any]:
        """The forecast beside what the run came to, as one JSON document."""
        document = self.document()
        for name in _COUNTS:
            document[name] |= _compared(getattr(self, name), getattr(actual, name))
        if self.list_nano is not None:
            inside = self.list_nano.holds(actual.list_nano)
            document["list_usd"] |= {"actual": str(usd(actual.list_nano)), "inside": inside}
        return document

    def verdict(self, actual: "Actual") -> str:
        """One line: what was foreseen, and whether it came so."""
        missed = [
            f"{_WORDS[name]} {amount:,}"
            for name in _COUNTS
            if not getattr(self, name).holds(amount := getattr(actual, name))
        ]
        if self.list_nano is not None and not self.list_nano.holds(actual.list_nano):
            missed.append(f"cash {show_usd(actual.list_nano)}")
        came = "as foreseen" if not missed else f"not foreseen: {', '.join(missed)}"
        return f"foreseen {self.brief()}; {came}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What a run came to."""

    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    list_nano: int


def kept_forecast(facts: Iterable[Fact]) -> Forecast | None:
    """The forecast that was made when a run began, among the facts about it; `None` when none was."""
    for fact in facts:
        if fact.name == FORECAST and fact.span_id is None and isinstance(fact.value, dict):
            return Forecast.read(fact.value)
    return None


def total(forecasts: Iterable[Forecast]) -> Forecast:
    """Several forecasts as one; their ends are added up, which is wider than 95 % and never narrower."""
    first, *others = forecasts
    for other in others:
        first += other
    return first


def _compared(foreseen: Range, amount: int) -> dict[str, int | bool]:
    return {"actual": amount, "inside": foreseen.holds(amount)}


def _span(ends: Range, show: Callable[[int], str] = "{:,}".format) -> str:
    return show(ends.lower) if ends.lower == ends.upper else f"{show(ends.lower)} to {show(ends.upper)}"


def _shown(ends: Range, show: Callable[[int], str] = "{:,}".format) -> str:
    if ends.lower == ends.upper:
        return show(ends.lower)
    return f"{show(ends.expected)}   ({show(ends.lower)} to {show(ends.upper)})"
