"""How much each trained token counts: every way to average a loss, as weights.

A loss is always the sum of weight times term over tokens. Weights are made once for all strands of an optimiser's step,
so how the strands are packed, and over how many passes their gradients are summed, changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from training.samples.record import Floats, Strand


def token_mean(strands: Sequence[Strand]) -> tuple[Floats, ...]:
    """`[N]` for each strand: every token of the batch counts the same.

    Source: Yu et al. 2025, "DAPO", arXiv:2503.14476, equation 8.
    Deviation: none.
    """
    total = sum(strand.trained for strand in strands)
    return tuple(np.full(strand.trained, 1.0 / total) for strand in strands)


def seq_mean_token_mean(strands: Sequence[Strand]) -> tuple[Floats, ...]:
    """`[N]` for each strand: mean over a transcript's tokens, then over transcripts.

    Source: Shao et al. 2024, "DeepSeekMath", arXiv:2402.03300, equation 3; MARSHAL's released code, whose mode is
        named "seq-mean-token-sum" but takes a mean.
    Deviation: a transcript that was cut into pieces is still one.
    """
    tokens = _tokens(strands)
    return tuple(np.full(s.trained, 1.0 / len(tokens) / tokens[s.row]) for s in strands)


def turn_mean(strands: Sequence[Strand]) -> tuple[Floats, ...]:
    """`[N]` for each strand: mean over a turn's tokens, a transcript's turns, a seat's transcripts, and the seats.

    Source: 2025, MARSHAL, arXiv:2510.15414, the objective: 1/P sum_p 1/|G_p| sum_i 1/K^i sum_k 1/|o_k| sum_t.
    Deviation: none; a transcript that was cut into pieces is still one.
    """
    turns: Counter[Hashable] = Counter()
    members: dict[int, set[Hashable]] = defaultdict(set)
    for strand in strands:
        turns[strand.row] += len(strand.spans)
        members[strand.seat].add(strand.row)
    return tuple(
        s.along(np.array([1.0 / (len(members) * len(members[s.seat]) * turns[s.row] * p.tokens) for p in s.spans]))
        for s in strands
    )


def seq_mean_token_sum(strands: Sequence[Strand]) -> tuple[Floats, ...]:
    """`[N]` for each strand: sum over a transcript's tokens, then mean over transcripts; the sum is not 1.

    Source: Ahmadian et al. 2024, "Back to Basics", arXiv:2402.14740, whose terms are whole sequences.
    Deviation: none; a transcript that was cut into pieces is still one.
    """
    rows = len({strand.row for strand in strands})
    return tuple(np.full(strand.trained, 1.0 / rows) for strand in strands)


def dr_grpo(strands: Sequence[Strand], longest_tokens: int) -> tuple[Floats, ...]:
    """`[N]` for each strand: sum over tokens, over transcripts times a constant length.

    Args:
        strands: of one optimiser's step.
        longest_tokens: a constant of the run, such as the most that could be sampled.

    Source: Liu et al. 2025, "Understanding R1-Zero-Like Training", arXiv:2503.20783, listing 1.
    Deviation: the listing divides by the budget of one generation; trainers give the longest strand of their recipe
        (`steps.longest_tokens`, else `steps.row_tokens`), which holds several turns and what was read as well. The loss
        differs by a constant factor, its KL and entropy too, so AdamW's steps differ only where the largest norm of a
        gradient or AdamW's epsilon has a say.
    """
    return tuple(weights / longest_tokens for weights in seq_mean_token_sum(strands))


AGGREGATIONS: Mapping[str, Callable[..., tuple[Floats, ...]]] = MappingProxyType(
    {
        "dr-grpo": dr_grpo,
        "seq-mean-token-mean": seq_mean_token_mean,
        "seq-mean-token-sum": seq_mean_token_sum,
        "token-mean": token_mean,
        "turn-mean": turn_mean,
    }
)
"""By name; `dr-grpo` alone takes `longest_tokens`."""


def _tokens(strands: Sequence[Strand]) -> Counter[Hashable]:
    tokens: Counter[Hashable] = Counter()
    for strand in strands:
        tokens[strand.row] += strand.trained
    return tokens
