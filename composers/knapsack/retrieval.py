"""Retrieval: which components sound like what a skill needs. The first step of every composer, and one by itself.

Source:
    Yuan et al. 2025, arXiv:2510.16499: the retrieval composer (top-1 per skill by embedding similarity, whatever it
    costs), the top K=10 candidates per skill, and the offline value `v_i = Σ_m SIM(a_i, skill_m)`.

    Deviation: the paper embeds with BGE-Large-EN-v1.5; here it is all-MiniLM-L6-v2 (`composers.knapsack.embeddings`,
    90 MB instead of 1.3 GB) or BM25 where no embedding model is installed (`composers.knapsack.bm25`). Ties go to the
    cheaper component, then to the name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from composers.knapsack.selection import Item
from composers.knapsack.skills import Similarity, Skill
from orchestra.agents.inventory import Component
from orchestra.errors import InputError

TOP_K = 10
"""Candidates per skill, as in the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A component found for a skill."""

    skill: str
    component: Component
    similarity: float
    """Cosine for embeddings; a BM25 score, which has no upper limit, for words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """A component and every skill it was retrieved for."""

    component: Component
    matches: tuple[Match, ...]
    """In the order of the skills; never empty."""

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of those skills."""
        return tuple(match.skill for match in self.matches)


Ranking = tuple[tuple[Match, ...], ...]
"""One row per skill, in the skills' order: every component, best first."""


def text_of(component: Component) -> str:
    """What of a component is compared with a skill: its name's words, its description and its categories."""
    words = " ".join(component.name.replace("_", " ").replace("-", " ").replace(".", " ").split())
    return f"{words}: {component.description} {' '.join(component.categories)}".strip()


def rank(skills: Sequence[Skill], components: Sequence[Component], *, similarity: Similarity) -> Ranking:
    """Per skill, every component with its similarity, best first.

    Raises:
        InputError: there is no skill or no component.
    """
    if not skills or not components:
        raise InputError(f"nothing to retrieve: {len(skills)} skills, {len(components)} components; give some of each")
    scores = similarity([skill.description for skill in skills], [text_of(component) for component in components])
    if scores.shape != (len(skills), len(components)) or not np.isfinite(scores).all():
        raise InputError(
            f"the similarity gave {scores.shape} scores for {(len(skills), len(components))} pairs, or some that are "
            "not finite: use another one"
        )
    tie = sorted(range(len(components)), key=lambda at: (components[at].price_usd, components[at].name))
    rows: list[tuple[Match, ...]] = []
    for skill, row in zip(skills, scores, strict=True):
        order = np.array(tie)[np.argsort(-row[tie], kind="stable")]
        rows.append(tuple(Match(skill=skill.name, component=components[at], similarity=float(row[at])) for at in order))
    return tuple(rows)


def candidates(ranking: Ranking, k: int = TOP_K) -> tuple[Retrieved, ...]:
    """The union of the top `k` of every skill, in order of first appearance: all firsts, then all seconds, ...

    Raises:
        InputError: `k` is less than 1.
    """
    if k < 1:
        raise InputError(f"top {k} per skill retrieves nothing: ask for at least 1")
    found: dict[str, list[Match]] = {}
    for place in range(min(k, max((len(row) for row in ranking), default=0))):
        for row in ranking:
            found.setdefault(row[place].component.name, []).append(row[place])
    position = {row[0].skill: at for at, row in enumerate(ranking) if row}
    return tuple(
        Retrieved(
            component=matches[0].component, matches=tuple(sorted(matches, key=lambda match: position[match.skill]))
        )
        for matches in found.values()
    )


def one_per_skill(ranking: Ranking) -> tuple[Retrieved, ...]:
    """The retrieval composer's choice: the best match of every skill. It ignores the budget, as in the paper."""
    return candidates(ranking, 1)


def price(chosen: Sequence[Retrieved]) -> Decimal:
    """What the chosen components cost together, in USD."""
    return sum((each.component.price_usd for each in chosen), start=Decimal(0))


def items(ranking: Ranking, k: int = TOP_K) -> tuple[Item, ...]:
    """The offline composer's items: value is the similarity to all skills together, groups are where it is in the top.

    Raises:
        InputError: `k` is less than 1.
    """
    worth: dict[str, float] = {}
    for row in ranking:
        for match in row:
            worth[match.component.name] = worth.get(match.component.name, 0.0) + match.similarity
    return tuple(
        Item(
            name=each.component.name,
            price=each.component.price_usd,
            value=worth[each.component.name],
            groups=each.skills,
            value_source="similarity",
        )
        for each in candidates(ranking, k)
    )
