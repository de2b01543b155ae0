"""How far the trainer's log-probabilities are from the sampler's, and the estimate of a distance that both use."""

from collections.abc import Mapping

import torch
from torch import Tensor

FAR = 0.1
"""Nats; a token beyond counts as far."""


def k3(logprobs_N: Tensor, reference_N: Tensor) -> Tensor:
    """`[N]` unbiased estimate, never negative, of the divergence of the first from the second, on the first's samples.

    Source: Schulman 2020, "Approximating KL Divergence" (the third estimator); its use as a loss: Shao et al. 2024,
        "DeepSeekMath", arXiv:2402.03300, equation 4.
    Deviation: none from the papers. MARSHAL's released code clamps each token's estimate to 10, beyond which it has no
        gradient; here neither it nor the log-ratio is clamped, and one that overflows in a loss is no number there.
    """
    gap_N = reference_N - logprobs_N
    return gap_N.exp() - gap_N - 1.0


@torch.no_grad()
def mismatch(logprobs_N: Tensor, sampled_N: Tensor, *, far: float = FAR) -> Mapping[str, Tensor]:
    """Metrics of the gap between trainer and sampler; before the first step they should be near 0.

    The sampler's number format, its kernels, a stale adapter and truncation all show here.

    Args:
        logprobs_N: `[N]` as the trainer computes them.
        sampled_N: `[N]` as sampled.
        far: in nats.
    """
    gap_N = logprobs_N - sampled_N
    return {
        "mismatch": gap_N.abs().sum(),
        # Of the sampler from the trainer: the samples are the sampler's.
        "mismatch k3": k3(sampled_N, logprobs_N).sum(),
        "mismatch max": gap_N.abs().max(),
        "mismatch far": (gap_N.abs() > far).to(gap_N.dtype).sum(),
    }
