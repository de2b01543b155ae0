"""Figures for TensorBoard, written by its own package."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from orchestra.errors import MissingExtra
from training.trainers.figures import flat


class Events:
    """Writes the figures of each step to event files in a folder.

    Args:
        folder: what TensorBoard is given as `--logdir`.

    Raises:
        MissingExtra: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            summary: Any = import_module("tensorboard.summary")
        except ImportError as cause:
            raise MissingExtra("tensorboard", "writing figures for TensorBoard") from cause
        self._writer = summary.Writer(str(folder))

    def __call__(self, figures: Mapping[str, Any]) -> None:
        """Add the figures of a step, those of the warm-up apart."""
        for name, value in flat(figures).items():
            if name != "step":
                self._writer.add_scalar(f"{figures['phase']}/{name}".replace(" ", "_"), value, int(figures["step"]))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
