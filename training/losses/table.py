"""The losses that recipes name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from training.losses.figures import Loss
from training.losses.policy import advantage_weighted, clipped, imitation, rejection_sampling
from training.losses.preference import dpo

LOSSES: Mapping[str, Callable[..., Loss]] = MappingProxyType(
    {
        "advantage-weighted": advantage_weighted,
        "clipped": clipped,
        "dpo": dpo,
        "imitation": imitation,
        "rejection-sampling": rejection_sampling,
    }
)
"""By name; each takes what the network said, the terms, and options of its own."""
