"""What is trained on: sequences of token ids as they were read and sampled, with the spans that were sampled."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Tokens of a strand that one turn sampled, and how."""

    turn: int
    """Position of the turn in its transcript, from 0."""
    start: int
    """First sampled token in the strand; at least 1, since something was read before."""
    end: int
    """One past the last sampled token."""
    temperature: float = 1.0
    """Divides the scores. A greedy turn has 1, since its log-probabilities are those of the undivided scores."""
    top_p: float = 1.0
    top_k: int = 0
    """0 means all tokens."""
    adapter: str | None = None
    """Name and version of the adapter that sampled; `None` means the base weights, or not known."""
    span_id: str = ""
    """Of the turn's span in the trace."""

    @property
    def tokens(self) -> int:
        """How many were sampled."""
        return self.end - self.start

    @property
    def truncated(self) -> bool:
        """Whether some tokens could not be drawn, so that the sampler's log-probabilities are of fewer tokens."""
        return self.top_k > 0 or self.top_p < 1.0


def qualified(run_id: str, episode_id: str) -> str:
    """Name of an episode among those of any number of runs.

    >>> qualified("20261127-101500-a1b2", "3/0")
    '20261127-101500-a1b2/3/0'
    """
    return f"{run_id}/{episode_id}" if run_id else episode_id


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strand:
    """Turns of one node at one seat that extend the same prefix: one sequence with several trained spans.

    Raises:
        ValueError: when spans overlap, lie outside of the sequence, or log-probabilities do not match them.
    """

    agent: str
    """Whose weights learn from it."""
    episode_id: str
    """Unique in its run."""
    seat: int
    """From 0."""
    node: str
    token_ids: Ids
    """`[T]` as the model read and sampled them; it ends with the last trained span."""
    spans: tuple[Span, ...]
    """Trained ones, in order; everything else is context."""
    logprobs: Floats
    """`[N]` natural log, as sampled, of the tokens of all spans one after another."""
    run_id: str = ""
    """Of the episode."""
    piece: int = 0
    """Counts the strands of one transcript, from 0; above 0 only where its sequence was cut."""

    def __post_init__(self) -> None:
        where = f"strand {self.piece} of node {self.node!r}, seat {self.seat}, episode {self.episode_id!r}"
        borders = [0, *(border for span in self.spans for border in (span.start, span.end))]
        if not self.spans or borders != sorted(borders) or borders[1] < 1 or borders[-1] != len(self.token_ids):
            raise ValueError(f"{where}: spans follow each other, read something before and end the sequence: {borders}")
        if any(span.tokens < 1 for span in self.spans):
            raise ValueError(f"{where}: a span has at least one token")
        if self.logprobs.shape != (self.trained,) or not np.isfinite(self.logprobs).all():
            raise ValueError(
                f"{where}: need one finite log-probability for each of {self.trained} trained tokens, "
                f"got {self.logprobs.shape}"
            )

    @property
    def trained(self) -> int:
        """How many tokens are trained on."""
        return sum(span.tokens for span in self.spans)

    @property
    def episode(self) -> str:
        """Which episode, among those of any number of runs."""
        return qualified(self.run_id, self.episode_id)

    @property
    def row(self) -> tuple[str, int, str]:
        """Episode, seat and node: what its rewards belong to, however many pieces there are."""
        return self.episode, self.seat, self.node

    def targets(self) -> Ids:
        """`[N]` places in `token_ids` of the trained tokens."""
        return np.concatenate([np.arange(span.start, span.end) for span in self.spans])

    def along(self, per_span: Floats) -> Floats:
        """`[N]` the figure of its span for each trained token."""
        return np.repeat(np.asarray(per_span, dtype=np.float64), [span.tokens for span in self.spans])


@dataclass(frozen=True, slots=True)
class Strands:
    """What came of reading episodes."""

    strands: tuple[Strand, ...]
    """In the order of the episodes, transcripts and turns."""
    skipped: Mapping[str, int]
    """Turns that taught nothing, counted by reason."""
