"""Several strands in one row: attention kept apart, and what they share at their beginning computed once.

A row is a forest. Each tree is a prefix tree of strands: a segment is a run of tokens that the same strands share, its
tokens see those of the segments above it and the earlier ones of their own. Strands that share nothing are trees of one
segment. Nothing is padded, and a strand's last token is not in the row at all, since nothing is predicted after it.

Source: Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination", arXiv:2107.02027 (rows apart);
    Hydragen, Juravsky et al. 2024, arXiv:2402.05099 (shared prefixes, there for decoding).
Deviation: best fit by shared prefix, then by room, in the order of the token ids; prefixes are shared in training,
    where the gradients of all branches meet in them.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestra.errors import InputError
from training.samples.record import Floats, Ids, Strand

SHARED_AT_LEAST_TOKENS = 16
"""A shorter common prefix is computed for each strand: one more call of attention costs more."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens of a row that the same strands share."""

    begin: int
    """First place in the row."""
    end: int
    position: int
    """Of its first token in its strands."""
    above: tuple[int, ...]
    """Segments its tokens see whole, from the root down, as indices."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One row for one forward pass, all strands of one agent."""

    agent: str
    members: tuple[int, ...]
    """The row's strands, as positions among those that were packed."""
    token_ids_T: Ids  # the axis is part of the name
    """`[T]` of the row."""
    positions_T: Ids
    """`[T]` of each token in its strand, from 0."""
    segments: tuple[Segment, ...]
    """In the order of the row; they cover it."""
    predictors_N: Ids
    """`[N]` place in the row whose output predicts each trained token; shared prefixes let several be one place."""
    targets_N: Ids
    """`[N]` the trained tokens, strand by strand in the order of `members`."""
    sampled_N: Floats
    """`[N]` their log-probabilities as sampled."""
    temperatures_N: Floats
    """`[N]` what divided the scores they were sampled from."""
    strand_N: Ids
    """`[N]` index into `members`."""
    strand_tokens: int
    """Tokens of all its strands, those of shared prefixes counted for each."""

    @property
    def tokens(self) -> int:
        """Tokens the network reads."""
        return len(self.token_ids_T)

    @property
    def trained(self) -> int:
        """Tokens that are trained on."""
        return len(self.targets_N)

    def along(self, per_strand: Sequence[Floats]) -> Floats:
        """`[N]` of this row, from `[N]` for each of the strands that were packed: weights, advantages, ..."""
        return np.concatenate([per_strand[member] for member in self.members])

    def apart(self, values_N: Floats) -> Mapping[int, Floats]:
        """`[N]` for each strand, by its position among those that were packed; the inverse of `along`."""
        borders = np.cumsum(np.bincount(self.strand_N, minlength=len(self.members)))[:-1]
        return dict(zip(self.members, np.split(values_N, borders), strict=True))


def packed(
    strands: Sequence[Strand],
    limit_tokens: int,
    *,
    share_prefixes: bool = True,
    together: Sequence[Sequence[int]] = (),
) -> tuple[Batch, ...]:
    """Rows of at most `limit_tokens`; every strand is in exactly one.

    Args:
        strands: of any number of agents; a row is one agent's.
        limit_tokens: most tokens of a row.
        share_prefixes: whether equal beginnings are computed once; a model must allow it (`training.losses.prepared`).
        together: sets of positions that must share a row, such as the two of a preference.

    Raises:
        orchestra.errors.InputError: when a strand, or a set that must stay together, is longer than a row.
    """
    sets = [tuple(members) for members in together]
    bound = {member for members in sets for member in members}
    sets += [(at,) for at in range(len(strands)) if at not in bound]
    sets.sort(key=lambda members: (strands[members[0]].agent, strands[members[0]].token_ids.tobytes(), members))
    rows: list[_Row] = []
    for members in sets:
        added = [strands[member] for member in members]
        best = max(
            (row for row in rows if row.agent == added[0].agent and row.would_be(added) <= limit_tokens),
            key=lambda row: (row.shared(added[0]), row.tokens),
            default=None,
        )
        if best is None:
            best = _Row(added[0].agent, share_prefixes)
            if best.would_be(added) > limit_tokens:
                raise InputError(
                    f"strand of node {added[0].node!r}, seat {added[0].seat}, episode {added[0].episode_id!r} needs "
                    f"{best.would_be(added)} tokens and a row has {limit_tokens}; raise the limit, or leave longer "
                    "strands out with `longest_tokens`"
                )
            rows.append(best)
        best.add(members, added)
    return tuple(_batch(row.agent, sorted(row.members), strands, share_prefixes) for row in rows)


def unpacked(strands: Sequence[Strand]) -> tuple[Batch, ...]:
    """A row for each strand, in their order: for networks that allow no packing."""
    return tuple(_batch(strand.agent, [at], strands, share=False) for at, strand in enumerate(strands))


@dataclass(slots=True)
class _Row:
    """A row that is being filled, in the order of token ids, so that the last strand is the nearest."""

    agent: str
    shares: bool
    members: list[int] = field(default_factory=list)
    tokens: int = 0
    last: Strand | None = None

    def shared(self, strand: Strand) -> int:
        """Tokens of `strand` that are in the row already."""
        if self.last is None or not self.shares:
            return 0
        common = _common(self.last.token_ids[:-1], strand.token_ids[:-1])
        # A branch within the last few tokens of another is not shared, so a row is never longer than it is thought.
        return max(0, common - SHARED_AT_LEAST_TOKENS + 1)

    def would_be(self, added: Sequence[Strand]) -> int:
        return self.tokens - self.shared(added[0]) + sum(len(strand.token_ids) - 1 for strand in added)

    def add(self, members: Sequence[int], added: Sequence[Strand]) -> None:
        self.tokens = self.would_be(added)
        self.members += members
        self.last = added[0]


def _common(one: Ids, other: Ids) -> int:
    """Length of the common prefix."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length


@dataclass(slots=True)
class _Forest:
    """Segments as they are laid out, and where each strand's tokens came to lie."""

    inputs: Sequence[Ids]
    """Of each strand, in the order of token ids."""
    common: Sequence[int]
    """Tokens that each strand shares with the one before it; 0 for the first."""
    segments: list[Segment] = field(default_factory=list)
    ids: list[Ids] = field(default_factory=list)
    paths: list[list[Ids]] = field(default_factory=list)
    """Places in the row of each strand's tokens, segment by segment."""

    def grow(self) -> None:
        """Lay out every strand."""
        self.paths = [[] for _ in self.inputs]
        used = 0
        ahead: list[tuple[int, int, int, tuple[int, ...]]] = [(0, len(self.inputs), 0, ())]
        while ahead:
            first, last, depth, above = ahead.pop()
            for begin, end in self._families(first, last, depth):
                until = min(self.common[begin + 1 : end], default=len(self.inputs[begin]))
                if until == depth:  # a strand that ends where its branch begins
                    continue
                segment = Segment(used, used + until - depth, depth, above)
                used = segment.end
                self.segments.append(segment)
                self.ids.append(self.inputs[begin][depth:until])
                for path in self.paths[begin:end]:
                    path.append(np.arange(segment.begin, segment.end))
                if end - begin > 1:
                    ahead.append((begin, end, until, (*above, len(self.segments) - 1)))

    def _families(self, first: int, last: int, depth: int) -> Iterator[tuple[int, int]]:
        """Runs of strands that share enough beyond `depth`."""
        begin = first
        for at in range(first + 1, last + 1):
            if at == last or self.common[at] < depth + SHARED_AT_LEAST_TOKENS:
                yield begin, at
                begin = at


def _batch(agent: str, members: Sequence[int], strands: Sequence[Strand], share: bool) -> Batch:
    ordered = sorted(members, key=lambda member: (strands[member].token_ids.tobytes(), member))
    inputs = [strands[member].token_ids[:-1] for member in ordered]
    pairs = itertools.pairwise(inputs)
    forest = _Forest(inputs, [0, *(_common(one, other) if share else 0 for one, other in pairs)])
    forest.grow()
    places = {member: np.concatenate(path) for member, path in zip(ordered, forest.paths, strict=True)}
    chosen = [strands[member] for member in members]
    counts = [strand.trained for strand in chosen]
    return Batch(
        agent=agent,
        members=tuple(members),
        token_ids_T=np.concatenate(forest.ids),
        positions_T=np.concatenate([s.position + np.arange(s.end - s.begin) for s in forest.segments]),
        segments=tuple(forest.segments),
        predictors_N=np.concatenate([places[at][strands[at].targets() - 1] for at in members]),
        targets_N=np.concatenate([strand.token_ids[strand.targets()] for strand in chosen]),
        sampled_N=np.concatenate([strand.logprobs for strand in chosen]),
        temperatures_N=np.concatenate([s.along(np.array([p.temperature for p in s.spans])) for s in chosen]),
        strand_N=np.repeat(np.arange(len(chosen)), counts),
        strand_tokens=sum(map(len, inputs)),
    )
