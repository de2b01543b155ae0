"""When two teams are the same.

Two questions, two answers. *Is this exactly the team that was recorded?* `content_hash`. *Has a search been here, under
other names?* `key`, equal for two graphs exactly when one becomes the other by renaming nodes and writing nodes and
channels down in another order. Neither is a key for a cache of completions: those depend on prompts, not on graphs.

What the canonical form counts: everything a node says about itself except its id; which channels there are and which of
them are heard in the next round (`graphs.schedule.carried`; two cycles that start at different members differ); which
node speaks for the team; the team's model, sampling and rounds. Weights of a vote and defaults of a router follow
their nodes. What it leaves out: ids, the team's name, provenance, and the order of nodes and channels.

Source: McKay and Piperno 2014, "Practical graph isomorphism, II", Journal of Symbolic Computation 60: colour
    refinement, individualisation, and pruning by the automorphisms met on the way.
Deviation: no node invariants beyond refinement; nodes whose exchange changes nothing are tried once, and any other
    automorphism prunes only the branch in which it is found. Teams have tens of nodes.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from graphs.documents import document
from graphs.errors import InvalidGraph
from graphs.model import AgentGraph
from graphs.schedule import carried
from graphs.validation import channels_land, unique_ids

Relation = tuple[str, int, int]
"""A labelled arrow between two numbered nodes."""


def content_hash(graph: AgentGraph) -> str:
    """SHA-256, in hexadecimal, of all that `graph` says except where it came from.

    Fields at their default are not part of it, so a field added in a later version changes no hash.
    """
    plain = document(graph)
    del plain["schema_version"]
    plain.pop("provenance", None)
    return _hash(_text(plain))


def key(graph: AgentGraph) -> str:
    """SHA-256, in hexadecimal, of the canonical form: equal exactly for graphs that differ in names and order only.

    Raises:
        InvalidGraph: when ids are repeated or channels lead nowhere.
    """
    return _hash(canonical_form(graph))


def canonical_form(graph: AgentGraph) -> str:
    """`graph` as JSON with its nodes renumbered, the same text for graphs that differ in names and order only.

    Raises:
        InvalidGraph: when ids are repeated or channels lead nowhere.
    """
    if broken := [problem for rule in (unique_ids, channels_land) for problem in rule(graph)]:
        raise InvalidGraph(broken)
    labels, relations = _described(graph)
    search = _Search(labels, relations)
    team = document(graph)
    for left_out in ("schema_version", "name", "provenance", "nodes", "channels", "output"):
        team.pop(left_out, None)
    nodes, arrows = search.form()
    return _text({"team": team, "nodes": nodes, "arrows": arrows})


def _described(graph: AgentGraph) -> tuple[list[str], list[Relation]]:
    """What each node says of itself alone, and every arrow between two of them."""
    number = {node.id: position for position, node in enumerate(graph.nodes)}
    later = {(c.source, c.target) for c in carried(graph)}
    relations = [
        ("later" if (c.source, c.target) in later else "now", number[c.source], number[c.target])
        for c in graph.channels
    ]
    labels = []
    for position, node in enumerate(graph.nodes):
        plain = document(node)
        plain["id"] = node.id == graph.output
        if isinstance(weights := plain.get("weights"), dict):
            known = {sender: weight for sender, weight in weights.items() if sender in number}
            relations += [(f"weight {weight!r}", number[sender], position) for sender, weight in known.items()]
            plain["weights"] = {sender: weight for sender, weight in weights.items() if sender not in number}
        if isinstance(default := plain.get("default"), list):
            relations += [("default", position, number[target]) for target in default if target in number]
            plain["default"] = sorted(target for target in default if target not in number)
        labels.append(_text(plain))
    return labels, relations


class _Search:
    """The least of all numberings that colour refinement cannot tell apart.

    A colouring is a list with a colour for each node. Refining it is invariant under renumbering, so the set of leaves
    is too, and the least leaf is canonical.
    """

    def __init__(self, labels: Sequence[str], relations: Sequence[Relation]) -> None:
        self._labels, self._relations = labels, relations
        self._beside: list[list[tuple[str, int]]] = [[] for _ in labels]
        for label, source, target in relations:
            self._beside[source].append((f"> {label}", target))
            self._beside[target].append((f"< {label}", source))
        self._best: tuple[Any, list[int], tuple[int, ...]] | None = None
        """Form, colouring and path of the least leaf so far."""

    def form(self) -> Any:
        """Labels and arrows, in the canonical numbering."""
        order = sorted(set(self._labels))
        self._descend(self._refined([order.index(label) for label in self._labels]), ())
        assert self._best is not None
        return self._best[0]

    def _descend(self, colours: list[int], path: tuple[int, ...]) -> int:
        """Visit all leaves below; the depth to return to, which is this one's unless a leaf showed a symmetry."""
        depth = len(path)
        if (cell := self._cell(colours)) is None:
            return self._visit(colours, path)
        tried: list[int] = []
        for node in cell:
            if any(self._twins(node, other) for other in tried):
                continue
            tried.append(node)
            split = [2 * colour for colour in colours]
            split[node] -= 1
            back_to = self._descend(self._refined(split), (*path, node))
            if back_to < depth:
                return back_to
        return depth

    def _visit(self, colours: list[int], path: tuple[int, ...]) -> int:
        form = self._numbered(colours)
        if self._best is None or form < self._best[0]:
            self._best = (form, colours, path)
        elif form == self._best[0]:
            # The renumbering that maps the best leaf to this one is a symmetry: it fixes what both paths share and maps
            # the branch of the one to the branch of the other, which therefore has nothing new.
            return next(depth for depth, (a, b) in enumerate(zip(path, self._best[2], strict=False)) if a != b)
        return len(path)

    def _twins(self, one: int, other: int) -> bool:
        """Whether exchanging two nodes of one colour, and nothing else, changes nothing."""
        exchanged = {one: other, other: one}
        moved = sorted((label, exchanged.get(node, node)) for label, node in self._beside[one])
        return moved == sorted(self._beside[other])

    def _cell(self, colours: list[int]) -> list[int] | None:
        """Nodes of the first colour that several share."""
        cells: dict[int, list[int]] = {}
        for node, colour in enumerate(colours):
            cells.setdefault(colour, []).append(node)
        return next((cells[colour] for colour in sorted(cells) if len(cells[colour]) > 1), None)

    def _refined(self, colours: list[int]) -> list[int]:
        """Colours told apart by the colours beside them until nothing changes; 0, 1, 2, ... in a canonical order."""
        count = 0
        while True:
            seen = [
                (colour, tuple(sorted((label, colours[other]) for label, other in self._beside[node])))
                for node, colour in enumerate(colours)
            ]
            ranked = {signature: rank for rank, signature in enumerate(sorted(set(seen)))}
            colours = [ranked[signature] for signature in seen]
            if len(ranked) == count:
                return colours
            count = len(ranked)

    def _numbered(self, colours: list[int]) -> tuple[list[str], list[Relation]]:
        labels = [""] * len(colours)
        for node, number in enumerate(colours):
            labels[number] = self._labels[node]
        return labels, sorted((label, colours[source], colours[target]) for label, source, target in self._relations)


def _text(plain: object) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
