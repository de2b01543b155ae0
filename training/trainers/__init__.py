"""Trainers: one loop from episodes to adapters, whether games are played now, were recorded earlier, or both.

A step plays (or reads) episodes, gives credit, updates each agent's adapter and publishes it to whatever samples next.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.trainers.curves import draw
    from training.trainers.job import train
    from training.trainers.loop import Trained
    from training.trainers.processes import Processes, joined, local_bytes
    from training.trainers.study import Lesson, Study, lesson
    from training.trainers.update import Learner, rate_at

__all__ = [
    "Learner",
    "Lesson",
    "Processes",
    "Study",
    "Trained",
    "draw",
    "joined",
    "lesson",
    "local_bytes",
    "rate_at",
    "train",
]

_HOMES = {
    "curves": ("draw",),
    "job": ("train",),
    "loop": ("Trained",),
    "processes": ("Processes", "joined", "local_bytes"),
    "study": ("Lesson", "Study", "lesson"),
    "update": ("Learner", "rate_at"),
}
"""Module -> what it holds; most load torch, so none is imported before it is asked for."""


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"training.trainers.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
