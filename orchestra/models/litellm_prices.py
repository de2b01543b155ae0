"""The price of a model on LiteLLM's list, as an upper bound of what a call is billed.

A list price has tiers: many models charge all of a call more once its prompt is longer than so many tokens, and some
charge reasoned tokens more than others. What a call is reserved and settled at is never below them: replies cost what
reasoned tokens cost, and of several tiers the first to begin costs what the dearest does. Discounts (cached prompts,
batches) are left out.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from orchestra.ledger import Price, nano

_LONG = re.compile(r"(input|output)_cost_per_token_above_(\d+)k_tokens")


def listed_price(facts: Mapping[str, Any]) -> Price | None:
    """The price in an entry of the list; `None` where it has none.

    Raises:
        orchestra.errors.InputError: an amount is negative or not a number.
    """
    read, write = facts.get("input_cost_per_token"), facts.get("output_cost_per_token")
    if read is None or write is None:
        return None
    write = max(write, facts.get("output_cost_per_reasoning_token") or 0)
    price = Price.per_million(_million(read), _million(write), source=f"LiteLLM {version('litellm')} price list")
    tiers = [(found[1], int(found[2]), cost) for key, cost in facts.items() if cost and (found := _LONG.fullmatch(key))]
    if not tiers:
        return price
    return replace(
        price,
        long_prompt_tokens=1000 * min(thousands for _, thousands, _ in tiers),
        long_input_nano_per_million=nano(_million(max([read, *(c for side, _, c in tiers if side == "input")]))),
        long_output_nano_per_million=nano(_million(max([write, *(c for side, _, c in tiers if side == "output")]))),
    )


def _million(per_token: float) -> Decimal:
    """USD per million tokens; `repr` of the list's float is the decimal its authors wrote."""
    return Decimal(repr(per_token)) * 1_000_000
