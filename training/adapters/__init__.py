"""Adapters: LoRA matrices over frozen base weights, made, saved, compared and published.

One network holds the adapters of several agents; which one a forward pass uses is chosen by the agent's name. What is
published is what is saved: the trainer's log-probabilities of a probe go along, and a server that computes others is
refused.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.adapters.files import Lineage, NotAsSaved, Saved, reloaded, save
    from training.adapters.gate import NotPublished, publish
    from training.adapters.network import Adapted, LiveWeights, NotFinite, Shape, adapted
    from training.adapters.states import DiskFull, load_tensors, save_tensors

__all__ = [
    "Adapted",
    "DiskFull",
    "Lineage",
    "LiveWeights",
    "NotAsSaved",
    "NotFinite",
    "NotPublished",
    "Saved",
    "Shape",
    "adapted",
    "load_tensors",
    "publish",
    "reloaded",
    "save",
    "save_tensors",
]

_HOMES = {
    "files": ("Lineage", "NotAsSaved", "Saved", "reloaded", "save"),
    "gate": ("NotPublished", "publish"),
    "network": ("Adapted", "LiveWeights", "NotFinite", "Shape", "adapted"),
    "states": ("DiskFull", "load_tensors", "save_tensors"),
}
"""Module -> what it holds; most load torch, so none is imported before it is asked for."""


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"training.adapters.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
