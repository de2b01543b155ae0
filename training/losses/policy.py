"""Losses of a policy: the clipped policy gradient, and imitation in three degrees.

Every loss is a sum over trained tokens of weight times term. Gradients of several batches therefore add up to those of
one, however strands are packed.
"""

import torch
from torch import Tensor

from training.losses.figures import COUNT, Loss, Metrics, Terms
from training.losses.gaps import k3, mismatch
from training.losses.network import Scored


def clipped(
    scored: Scored,
    terms: Terms,
    *,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    dual: float | None = None,
    cap: float | None = None,
    kl: float = 0.0,
    entropy: float = 0.0,
) -> Loss:
    """Clipped policy gradient with a dual clip, less a bonus for entropy, plus the distance to the reference.

    The ratio is of the network's probability and the *sampler's*, under the temperature that was sampled with. Where
    the sampler truncated (`top_p`, `top_k`), its log-probabilities are of the kept tokens alone and the network's of
    all: the ratio of an unchanged network is then the kept mass, a little below 1, and shows as mismatch.

    Args:
        scored: the network's log-probabilities and entropies.
        terms: with advantages; with a reference where `kl` is not 0; with `old_N` where there is a cap.
        epsilon_low: how far below 1 a ratio still moves the loss.
        epsilon_high: how far above 1.
        dual: bound of the ratio for negative advantages, above 1; `None` is `1 + 2 * epsilon_high`.
        cap: most that a token counts for because the sampler is another engine (truncated importance sampling): the
            ratio is then to `old_N`, the network's own before the step, and each token counts `old / sampled` times,
            but not more than this. `None` corrects nothing.
        kl: coefficient of the k3 estimate of the distance to the reference.
        entropy: coefficient of the entropy.

    Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", arXiv:1707.06347, equation 7; Ye et al.
        2020, "Mastering Complex Control in MOBA Games", arXiv:1912.09729, section 4.3 (dual clip); MARSHAL's released
        code (the bound, and the distance as part of the loss); Yao et al. 2025, "Your Efficient RL Framework Secretly
        Brings You Off-Policy RL Training" (the cap).
    Deviation: the released code divides by log-probabilities that its trainer computes again before the step, which
        hides what sampler and trainer make of a token differently; here they are the sampler's, as captured, and `cap`
        is what computes them again. Its `epsilon` is one number; its distance is clamped to 10 a token (`k3`).

    Raises:
        ValueError: when a figure that an option needs is missing.
    """
    advantages = _needed(terms.advantages_N, "advantages_N", "the policy gradient")
    base = terms.sampled_N
    counts = torch.ones_like(advantages)
    if cap is not None:
        base = _needed(terms.old_N, "old_N", f"{cap=}")
        counts = (base - terms.sampled_N).exp().clamp(max=cap)
    ratios = (scored.logprobs_N - base).exp()
    bounded = ratios.clamp(1.0 - epsilon_low, 1.0 + epsilon_high)
    objective = torch.minimum(ratios * advantages, bounded * advantages)
    floor = 1.0 + 2.0 * epsilon_high if dual is None else dual
    objective = torch.where(advantages < 0, torch.maximum(objective, floor * advantages), objective)
    value = -(terms.weights_N * counts * objective).sum()
    with torch.no_grad():
        outside = ((ratios > 1.0 + epsilon_high) & (advantages > 0)) | ((ratios < 1.0 - epsilon_low) & (advantages < 0))
        beyond = (ratios > floor) & (advantages < 0)
        shown = {
            "clipped": (outside | beyond).float().sum(),
            "ratio": ratios.sum(),
            "ratio max": ratios.max(),
            "advantage size": advantages.abs().sum(),
            "without advantage": (advantages == 0).float().sum(),
        }
        if cap is not None:
            shown["capped"] = (counts >= cap).float().sum()
    return _regularised(value, shown, scored, terms, kl, entropy)


def imitation(scored: Scored, terms: Terms, *, kl: float = 0.0, entropy: float = 0.0) -> Loss:
    """Minus the log-probability of what was said: supervised fine-tuning on the trained spans.

    Source: none needed; maximum likelihood.
    Deviation: scores are divided by the temperature of the span; give spans a temperature of 1 to leave them.
    """
    return _regularised(-(terms.weights_N * scored.logprobs_N).sum(), {}, scored, terms, kl, entropy)


def rejection_sampling(
    scored: Scored, terms: Terms, *, threshold: float = 0.0, kl: float = 0.0, entropy: float = 0.0
) -> Loss:
    """Imitation of the tokens whose advantage is above `threshold`; the others count nothing.

    Weights are not raised for what is left out: half the tokens kept is half the loss. Weigh the kept strands alone
    for a mean over them.

    Source: Dong et al. 2023, "RAFT", arXiv:2304.06767; Yuan et al. 2023, arXiv:2308.01825 (rejection sampling).
    Deviation: what is kept is decided by advantage, turn by turn where the estimator is.
    """
    advantages = _needed(terms.advantages_N, "advantages_N", "rejection sampling")
    kept = (advantages > threshold).to(terms.weights_N.dtype)
    value = -(terms.weights_N * kept * scored.logprobs_N).sum()
    return _regularised(value, {"kept": kept.sum()}, scored, terms, kl, entropy)


def advantage_weighted(
    scored: Scored,
    terms: Terms,
    *,
    sharpness: float = 1.0,
    largest: float = 20.0,
    kl: float = 0.0,
    entropy: float = 0.0,
) -> Loss:
    """Imitation, each token counted `exp(advantage / sharpness)` times, but not more than `largest`.

    Source: Peng et al. 2019, "Advantage-Weighted Regression", arXiv:1910.00177, equation 9 and section 5.2.
    Deviation: none; the paper's beta is `sharpness`, its weight clip `largest`.
    """
    if sharpness <= 0:
        raise ValueError(f"a sharpness is above 0, got {sharpness=}")
    advantages = _needed(terms.advantages_N, "advantages_N", "advantage-weighted regression")
    counts = (advantages / sharpness).exp().clamp(max=largest)
    value = -(terms.weights_N * counts * scored.logprobs_N).sum()
    return _regularised(value, {"count": counts.sum(), "count max": counts.max()}, scored, terms, kl, entropy)


def _regularised(
    value: Tensor, shown: dict[str, Tensor], scored: Scored, terms: Terms, kl: float, entropy: float
) -> Loss:
    """The loss with its distance and entropy, and the metrics that every loss has."""
    metrics: dict[str, Tensor] = dict(shown)
    if kl != 0.0:
        _needed(terms.reference_N, "reference_N", f"{kl=}")
    if terms.reference_N is not None:
        distances = k3(scored.logprobs_N if kl != 0.0 else scored.logprobs_N.detach(), terms.reference_N)
        if kl != 0.0:  # zero times an infinite distance would be no number
            value = value + kl * (terms.weights_N * distances).sum()
        metrics["kl"] = distances.detach().sum()
    if entropy != 0.0:
        value = value - entropy * (terms.weights_N * scored.entropies_N).sum()
    metrics["entropy"] = scored.entropies_N.detach().sum()
    metrics["logprob"] = scored.logprobs_N.detach().sum()
    metrics[COUNT] = torch.tensor(float(len(terms.weights_N)))
    metrics["loss total"] = value.detach()
    measured: Metrics = {**metrics, **mismatch(scored.logprobs_N, terms.sampled_N)}
    return Loss(value, measured)


def _needed(figures: Tensor | None, name: str, what: str) -> Tensor:
    if figures is None:
        raise ValueError(f"{what} needs `{name}`, which the terms do not have")
    return figures
