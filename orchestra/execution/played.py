"""How one play ended, as the runtime tells it to whoever asked for it."""

from dataclasses import dataclass

from orchestra.execution.play import Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How one play ended."""

    episode_id: str
    span_id: str
    reply: str | None
    """Of a play that failed, the best there is of one; `None` when nothing was said."""
    partial: bool
    """Whether it failed and `reply` is what there was of one."""
    error: BaseException | None
    faults: tuple[str, ...]
    """Tools that failed without ending the play."""
    spoke: frozenset[str]
    """Nodes that had something to say."""
    spent: Spent
    paid_nano: int
    """What the ledger paid, in nano-USD, earlier attempts of the run included."""
    latency_seconds: float
