"""Recipes: everything a training run is made of, in one TOML file that refuses keys it does not know."""

from training.recipes.cautions import cautions
from training.recipes.model import (
    Agent,
    Checkpoints,
    Credit,
    Foundation,
    Learns,
    LossTerm,
    Make,
    Optimiser,
    Publish,
    Recipe,
    Source,
    Steps,
    Warmup,
)
from training.recipes.reading import changed, names, read

__all__ = [
    "Agent",
    "Checkpoints",
    "Credit",
    "Foundation",
    "Learns",
    "LossTerm",
    "Make",
    "Optimiser",
    "Publish",
    "Recipe",
    "Source",
    "Steps",
    "Warmup",
    "cautions",
    "changed",
    "names",
    "read",
]
