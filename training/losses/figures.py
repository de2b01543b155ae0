"""What a loss is made of besides the network's answer, one figure for each trained token of a batch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.samples import Batch, Floats

Metrics = Mapping[str, Tensor]
"""Sums over a batch's tokens; those whose name ends in ` max` are maxima. `merged` makes figures of them."""

COUNT = "trained tokens"
"""Name of the metric that sums are divided by."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """Figures of a batch, `[N]` each, on the network's device."""

    weights_N: Tensor
    """How much each token counts (`training.samples.AGGREGATIONS`); over all batches of a step it sums to 1, for
    means."""
    sampled_N: Tensor
    """Log-probabilities as sampled."""
    strand_N: Tensor
    """Index of each token's strand in the batch."""
    advantages_N: Tensor | None = None
    reference_N: Tensor | None = None
    """Log-probabilities under the frozen reference: the base weights under the adapter. Where they are, the distance to
    it is among the metrics, whether it is in the loss or not."""
    old_N: Tensor | None = None
    """Log-probabilities of the network itself before the step, where the sampler is another engine."""


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """What to minimise, and what to show. No figure has been read from the device yet."""

    value: Tensor
    """Sum over the batch; batches of a step are added, not averaged."""
    metrics: Metrics


def terms(
    batch: Batch,
    weights: Sequence[Floats],
    *,
    advantages: Sequence[Floats] | None = None,
    reference: Sequence[Floats] | None = None,
    old: Sequence[Floats] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Terms:
    """The figures of `batch`, out of those of all strands that were packed, `[N]` for each strand."""

    def moved(figures: Sequence[Floats] | None) -> Tensor | None:
        return None if figures is None else torch.from_numpy(batch.along(figures)).to(device, dtype)

    return Terms(
        weights_N=torch.from_numpy(batch.along(weights)).to(device, dtype),
        sampled_N=torch.from_numpy(batch.sampled_N).to(device, dtype),
        strand_N=torch.from_numpy(batch.strand_N).to(device),
        advantages_N=moved(advantages),
        reference_N=moved(reference),
        old_N=moved(old),
    )


def merged(losses: Iterable[Metrics]) -> dict[str, float]:
    """Figures of a step out of the metrics of its batches: means over trained tokens, and maxima.

    This reads from the device; call it once a step.
    """
    sums: dict[str, float] = {}
    for metrics in losses:
        for name, value in metrics.items():
            figure = float(value)
            if name.endswith(" max"):
                sums[name] = max(sums.get(name, -float("inf")), figure)
            else:
                sums[name] = sums.get(name, 0.0) + figure
    count = sums.get(COUNT, 0.0) or 1.0
    return {
        name: value if name.endswith((" max", " total")) or name == COUNT else value / count
        for name, value in sums.items()
    }
