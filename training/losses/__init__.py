"""Losses: what a network is told about the strands it is trained on, and the log-probabilities they are made of.

A step is: `token_logprobs` of each batch, a loss of `LOSSES` with the batch's `terms`, its backward pass, and `merged`
over the metrics of all batches. Losses of a step's batches are added: weights are made for the whole step.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.losses.figures import Loss, Metrics, Terms, merged, terms
    from training.losses.gaps import k3, mismatch
    from training.losses.network import Scored, TokenLogprobs, prepared, token_logprobs
    from training.losses.policy import advantage_weighted, clipped, imitation, rejection_sampling
    from training.losses.preference import dpo
    from training.losses.table import LOSSES

__all__ = [
    "LOSSES",
    "Loss",
    "Metrics",
    "Scored",
    "Terms",
    "TokenLogprobs",
    "advantage_weighted",
    "clipped",
    "dpo",
    "imitation",
    "k3",
    "merged",
    "mismatch",
    "prepared",
    "rejection_sampling",
    "terms",
    "token_logprobs",
]

_HOMES = {
    "gaps": ("k3", "mismatch"),
    "network": ("Scored", "TokenLogprobs", "prepared", "token_logprobs"),
    "policy": ("advantage_weighted", "clipped", "imitation", "rejection_sampling"),
    "preference": ("dpo",),
    "table": ("LOSSES",),
    "figures": ("Loss", "Metrics", "Terms", "merged", "terms"),
}
"""Module -> what it holds; each loads torch, so none is imported before it is asked for."""


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"training.losses.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
