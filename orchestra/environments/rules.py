"""What every game here has in common: how a seat must answer, and what it earns besides the game's own rewards.

Source:
    MARSHAL (arXiv:2510.15414) and its released code, whose choices are the defaults: a reply is `<think>…</think>` and
    `<answer>…</answer>` and nothing else; of several moves between `||` the first counts; 0.05 for every valid move; a
    draw is worth 0.1 to both; whoever breaks the form or the rules loses its stake and 10 more, the game ends, and
    nobody else gains by it. So does whoever lets its transcript outgrow the model's context, by its last own move.
    Deviation: `thinking=False` asks for the answer alone, for models that cannot think in writing. The paper prints a
    bonus for short replies where the code has a penalty for long ones: `length="released"` is the code,
    `length="paper"` the print. Where several agents hold a seat together, which MARSHAL has not, the tokens of all of
    them count: talk among them is not free. Scaling of a game's rewards is a setting (`scale`), as paper and code
    differ on it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestra.errors import InputError

SHORT_TOKENS, LONG_TOKENS, LENGTH_SHARE = 11, 2048, 0.5
"""Of the length term: where it begins, where the released one turns negative, and its size."""

NUMBERS = ("format_bonus", "draw", "violation", "scale")
"""Settings that are a number."""

_ANSWER = re.compile(r"\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_THOUGHT = re.compile(r"\s*(?:<think>)?(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How replies are read and rewarded.

    Raises:
        InputError: a setting has another type, or is out of range.
    """

    thinking: bool = False
    """A reply is a thought and an answer; else the answer alone."""
    history: Literal["full", "actions", "none"] | None = None
    """What a seat is shown of others' moves: with state and choices, the move alone, or nothing; `None` is the game's
    own. A game whose moves are private needs `none`."""
    format_bonus: float = 0.05
    """For every valid move."""
    draw: float = 0.1
    """To every seat, in games that can be drawn."""
    violation: float = 10.0
    """Lost besides the stake by a reply that is no move."""
    length: Literal["released", "paper", "none"] = "released"
    """The term for the length of a reply: of every token that the team at the seat wrote for the move, by whichever of
    its members, tool calls and what nobody else hears included. A plain player's is its reply alone."""
    scale: float = 1.0
    """Of the game's own rewards."""

    def __post_init__(self) -> None:
        given: Mapping[str, object] = {name: getattr(self, name) for name in ("thinking", *NUMBERS)}
        if not isinstance(given["thinking"], bool):
            raise InputError(f"thinking is true or false; got {self}")
        strange = [name for name in NUMBERS if not _is_number(given[name])]
        if strange:
            raise InputError(f"{', '.join(strange)}: a finite number is wanted; got {self}")
        if self.history not in (None, "full", "actions", "none") or self.length not in ("released", "paper", "none"):
            raise InputError(f"history is full, actions or none, and length is released, paper or none; got {self}")
        if self.violation < 0 or self.scale <= 0:
            raise InputError(f"a violation costs at least 0 and the scale is above 0; got {self}")

    @property
    def form(self) -> str:
        """The form of a reply, as a seat is told it."""
        thought = "<think>your thoughts</think>" if self.thinking else ""
        return f"{thought}<answer>your action</answer>"

    def written(self, action: str) -> str:
        """A reply that makes the move `action`."""
        return f"<think></think><answer>{action}</answer>" if self.thinking else f"<answer>{action}</answer>"

    def read(self, text: str | None) -> str | None:
        """The move that `text` names; `None` when it has not the form.

        >>> Rules().read("<answer><BET> || <PASS></answer>")
        '<BET>'
        >>> Rules().read("I bet. <answer><BET></answer>")
        """
        answer = self.inside(text)
        return None if answer is None else answer.partition("||")[0].strip() or None

    def inside(self, text: str | None) -> str | None:
        """All that stands in the answer of `text`; `None` when it has not the form, or that is nothing."""
        found = (_THOUGHT if self.thinking else _ANSWER).fullmatch(text or "")
        if found is None:
            return None
        *thoughts, answer = found.groups()
        if any("</think>" in thought for thought in thoughts) or "<answer>" in answer or "</answer>" in answer:
            return None  # what stands between two of them is neither thought nor answer
        return str(answer).strip() or None

    def length_reward(self, tokens: int | None) -> float:
        """What the length of a reply earns; a length that is not known earns nothing."""
        if tokens is None or self.length == "none":
            return 0.0
        share = 1.0 - (tokens - SHORT_TOKENS) / (LONG_TOKENS - SHORT_TOKENS)
        if self.length == "paper":
            return LENGTH_SHARE * max(0.0, share)
        return LENGTH_SHARE * min(0.0, share)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
