"""The embedded engine: any Hugging Face causal language model, run in this process and batched over its callers.

Always true: a reply's ids and log-probabilities are those of the distribution it was drawn from; rows that share a
batch never change each other beyond the rounding of the number format; memory for kept transcripts is bounded.
torch and transformers are imported below this package and nowhere else in `orchestra`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.models.local.model import LocalModel
    from orchestra.models.local.opening import calibrate, open_local, prepare

__all__ = ["LocalModel", "calibrate", "open_local", "prepare"]


def __getattr__(name: str) -> object:
    if name == "LocalModel":
        from orchestra.models.local.model import LocalModel

        return LocalModel
    if name in __all__:
        from orchestra.models.local import opening

        return getattr(opening, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
