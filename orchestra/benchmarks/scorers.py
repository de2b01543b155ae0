"""How a reply is scored against a task's target: a number from 0 (wrong) to 1 (right).

The built-in scorers are pure functions of reply and target, and none of them asks a model. An absent reply scores
0: a failed episode counts. What is right is decided by what is written, not by what could be meant:

- `exact`: the same text, but for white space at both ends.
- `numeric`: the *last* number of the reply equals the target. `1,234.50`, `1234.5` and `$1,234.50` are one number;
  so are `-5`, `−5`, `–5` and `-$5`. A minus sign belongs to a number unless something it could be taken from stands
  directly before it (`10-5`, `2024-01-15`). Digits inside a word (`m2`, `CO2`) or an exponent (`m^2`) are no numbers of
  the reply; units and `%` after a number are passed over. There is no decimal comma: `3,5` is 3 and then 5. Two numbers
  are equal when they differ by at most a part in 10⁹ of the target, which forgives binary fractions, not rounding.
- `contains` (the default): the target occurs in the reply, whatever the letter case, and with any white space, or none,
  where it has some. A target of up to 8 characters, or with a digit at that end, must not run on into another word or
  number: `5` is not in `15`, `1.5`, `5,000` or `-5`, and `cat` is not in `catalogue`.
- `regex`: the target is a regular expression that is found somewhere in the reply.
- `module:function`: called with reply and target, returns a number from 0 to 1 or a truth value. Its code must lie
  beside the inventory, or be trusted; it runs in this process.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from orchestra.errors import InputError

if TYPE_CHECKING:
    from orchestra.agents.tool_sources import Source
    from orchestra.benchmarks.tasks import Task

Scorer: TypeAlias = Callable[[str, str], float]
"""Reply and target in, score out."""

SHORT_CHARACTERS = 8
"""`contains` finds a target of up to so many characters as words of its own only."""
_CLOSE = Decimal("1e-9")
_NUMBER = re.compile(
    r"""
    (?:(?<![\w.)%^])(?P<sign>[-−–+]))?   # not the minus of 10-5
    (?:[$€£¥]\s?)?
    (?<![A-Za-z_^0-9])(?<![0-9]\.)       # not the 2 of m2 or of m^2, nor the 3 of 1.2.3
    (?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)
    (?P<exponent>[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z]))?
    """,
    re.VERBOSE,
)


def score(task: "Task", reply: str | None, *, folder: Path | None = None, trust: bool = False) -> float:
    """The score of `reply`, from 0 to 1; no reply scores 0.

    Args:
        task: with its target and the name of its scorer.
        reply: what the team answered; `None` when it failed.
        folder: where a scorer of the form `module:function` is looked up first.
        trust: whether such a scorer may come from elsewhere.

    Raises:
        InputError: when the task has no target, or its scorer is unknown, not trusted, or broken.
    """
    if task.scorer not in SCORERS:
        return _own_score(task, reply, folder, trust)
    if task.target is None:
        raise InputError(f"task {task.id!r} has no target to score a reply against; add one")
    return 0.0 if reply is None else SCORERS[task.scorer](reply, task.target)


def check_scorers(tasks: Iterable["Task"], folder: Path | None, *, trust: bool = False) -> None:
    """Refuse scorers of one's own that may not be called; nothing is imported.

    Args:
        folder: where a scorer of the form `module:function` is looked up first.
        trust: whether such a scorer may come from elsewhere.

    Raises:
        InputError: naming the scorer.
    """
    from orchestra.agents.tool_sources import source_of

    for scorer in sorted({task.scorer for task in tasks} - set(SCORERS)):
        source_of(scorer, () if folder is None else (folder,), trust=trust, what="scorer")


def exact(reply: str, target: str) -> float:
    """1 when they are the same text, but for white space at both ends."""
    return float(reply.strip() == target.strip())


def numeric(reply: str, target: str) -> float:
    """1 when the last number of `reply` is `target`.

    >>> numeric("61 * 65 = 3,965 km.", "3965"), numeric("-5", "5"), numeric("none", "5")
    (1.0, 0.0, 0.0)

    Raises:
        InputError: when the target is not a number.
    """
    wanted = number(target)
    if wanted is None:
        raise InputError(f"the numeric scorer needs a number as target, got {target!r}")
    said = last_number(reply)
    return float(said is not None and abs(said - wanted) <= _CLOSE * abs(wanted))


def contains(reply: str, target: str) -> float:
    """1 when `target` occurs in `reply`, by the rules above."""
    return float(_occurrence(target).search(reply) is not None)


def regex(reply: str, target: str) -> float:
    """1 when the regular expression `target` is found in `reply`."""
    return float(re.search(target, reply) is not None)


SCORERS: Mapping[str, Scorer] = {
    "exact": exact,
    "numeric": numeric,
    "contains": contains,
    "regex": regex,
}
"""The scorers by name."""


def number(text: str) -> Decimal | None:
    """The number that `text` is, with or without a currency or per cent sign; `None` when it is anything else."""
    found = _NUMBER.match(text.strip().removesuffix("%").rstrip())
    whole = found is not None and found.end() == len(found.string)
    return _value(found) if found is not None and whole else None


def last_number(text: str) -> Decimal | None:
    """The last number in `text`; `None` when there is none.

    >>> last_number("It takes 1,234.50 s, or -5e2 m^2")
    Decimal('-5E+2')
    """
    last = None
    for found in _NUMBER.finditer(text):
        last = found
    return None if last is None else _value(last)


def target_problem(scorer: str, target: str | None) -> str | None:
    """Why `target` cannot be scored by `scorer`; `None` when it can."""
    if target is None:
        return None if scorer == "contains" or scorer not in SCORERS else f"scorer {scorer!r} needs a target; add one"
    if scorer == "numeric" and number(target) is None:
        return f"scorer 'numeric' needs a number as target, got {target!r}; write only the number, or use 'contains'"
    if scorer == "contains" and not target.strip():
        return "target is blank, which every reply contains; write what the reply must contain"
    if scorer == "regex":
        try:
            re.compile(target)
        except re.error as error:
            return f"target {target!r} is not a regular expression: {error}"
    return None


def _value(found: re.Match[str]) -> Decimal | None:
    text = found["digits"].replace(",", "") + (found["exponent"] or "")
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return -value if found["sign"] in ("-", "−", "–") else value


@lru_cache(maxsize=4096)
def _occurrence(target: str) -> re.Pattern[str]:
    target = target.strip()
    short = len(target) <= SHORT_CHARACTERS
    before = after = ""
    if target[:1].isdigit():
        # Nor the end of a decimal or grouped number, nor a number with a minus of its own, before a currency or not.
        minus = "".join(rf"(?<!{free}[-−–]{money})" for free in ("^", r"[^\w.)%^]") for money in ("", "[$€£¥]"))
        before = rf"(?<!\w)(?<!\d[.,]){minus}"
    elif short and target[:1].isalpha():
        before = r"(?<!\w)"
    if target[-1:].isdigit():
        after = r"(?!\w)(?![.,]\d)"
    elif short and target[-1:].isalpha():
        after = r"(?!\w)"
    inside = r"\s*".join(re.escape(word) for word in target.split())
    return re.compile(before + inside + after, re.IGNORECASE)


def _own_score(task: "Task", reply: str | None, folder: Path | None, trust: bool) -> float:
    from orchestra.agents.tool_sources import source_of

    source = source_of(task.scorer, () if folder is None else (folder,), trust=trust, what="scorer")
    if reply is None:
        return 0.0
    try:
        value = _function(source)(reply, task.target)
    except Exception as error:
        raise InputError(
            f"scorer {task.scorer!r} failed on task {task.id!r}: {type(error).__name__}: {error}; mend it"
        ) from error
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1 or math.isnan(value):
        raise InputError(f"scorer {task.scorer!r} returned {value!r} on task {task.id!r}; return a number from 0 to 1")
    return float(value)


@lru_cache(maxsize=256)
def _function(source: "Source") -> Callable[[str, str | None], object]:
    module = import_module(source.module) if source.folder is None else _module_beside(source)
    value: object = module
    for part in source.function.split("."):
        value = getattr(value, part)
    if not callable(value):
        raise TypeError(f"{source.module}:{source.function} is not a function")
    return value


def _module_beside(source: "Source") -> ModuleType:
    """The module in its folder, under a name of its own: two folders may have one of the same name."""
    alias = f"_scorer_{source.module}_{abs(hash(source.file)):x}"
    spec = spec_from_file_location(alias, source.file) if source.file else None
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no module {source.module!r} in {source.folder}")
    module = sys.modules[alias] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
