"""How several replies become one answer: extraction and a weighted count, without a model.

Vote nodes and the equal-cost baselines use the same two functions, so a baseline is never judged by another vote than
the team's. A reply in which nothing can be extracted abstains; when all abstain the answer is empty.

Source:
    Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models", arXiv:2203.11171,
    section 2: the majority over extracted answers.
    Deviation: weights by sender, and a stated tie rule (the answer heard first). Numbers are compared by value, so
    `3,965`, `3965` and `3965.0` are one answer.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

from graphs.model import VoteNode
from orchestra.benchmarks.scorers import last_number


def extract(text: str, node: VoteNode) -> str:
    """What of `text` counts as its answer, by the node's rule; empty when there is none.

    - `whole`: the text without surrounding white space
    - `last-line`: its last line that is not blank
    - `last-number`: the last number in it, as the `numeric` scorer reads it, without thousands separators
    - `pattern`: the first match of the node's regular expression: its first group, else all of it

    >>> extract("61 times 65 is 3,965.", VoteNode(id="v", extract="last-number"))
    '3965'
    """
    match node.extract:
        case "whole":
            return text.strip()
        case "last-line":
            return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
        case "last-number":
            number = last_number(text)
            return "" if number is None else str(number)
        case "pattern":
            hit = re.search(node.pattern or "", text)
            if hit is None:
                return ""
            return ((hit.group(1) if hit.re.groups else None) or hit.group()).strip()


def tally(messages: Sequence[tuple[str, str]], node: VoteNode) -> str:
    """The answer with the most weight among `messages`, in the words first heard; ties go to the one heard first.

    Args:
        messages: pairs of sender and text, in channel order.
        node: its `extract` and `pattern` say what counts as an answer, its `weights` how much each sender counts.
    """
    weight_of: dict[str | Decimal, float] = {}
    words: dict[str | Decimal, str] = {}
    for sender, text in messages:
        answer = extract(text, node)
        if not answer:
            continue
        key = _same(answer, node)
        words.setdefault(key, answer)
        weight_of[key] = weight_of.get(key, 0.0) + node.weights.get(sender, 1.0)
    if not weight_of:
        return ""
    return words[max(weight_of, key=lambda key: weight_of[key])]  # `max` keeps the first of equals


def _same(answer: str, node: VoteNode) -> str | Decimal:
    """What two equal answers have in common."""
    if node.extract == "last-number":
        return Decimal(answer)
    return answer.strip().casefold()
