"""The knapsack composers: equip a team under a budget by retrieval, by exact selection, or by trying components out.

    tasks ──skills──▶ skills ──retrieval──▶ candidates ──┬─ exact / offline ──▶ best set on similarity
                                                         └─ estimates ──┬─ online ──▶ set hired while trying (ZCL)
                                                                        └─ coverage ──▶ best set on what was measured

Everything here is arithmetic: no model is called and nothing heavy is imported until it is used.

Source:
    Yuan et al. 2025, "Automated Composition of Agents: A Knapsack Approach for Agentic Component Selection",
    arXiv:2510.16499, NeurIPS 2025.

    Deviation: stated module by module.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Bm25": "composers.knapsack.bm25",
    "Bounds": "composers.knapsack.online",
    "Candidate": "composers.knapsack.selection",
    "DeadlineReached": "composers.knapsack.selection",
    "Decision": "composers.knapsack.online",
    "Infeasible": "composers.knapsack.selection",
    "Item": "composers.knapsack.selection",
    "Limit": "composers.knapsack.selection",
    "Match": "composers.knapsack.retrieval",
    "OnlineKnapsack": "composers.knapsack.online",
    "OnlineState": "composers.knapsack.online",
    "Pair": "composers.knapsack.estimates",
    "Reestimate": "composers.knapsack.estimates",
    "Selection": "composers.knapsack.selection",
    "Skill": "composers.knapsack.skills",
    "TrialEstimate": "composers.knapsack.estimates",
    "arrivals": "composers.knapsack.online",
    "best_additive": "composers.knapsack.exact",
    "best_coverage": "composers.knapsack.coverage",
    "best_under_limits": "composers.knapsack.offline",
    "best_similarity": "composers.knapsack.similarity",
    "bounds": "composers.knapsack.online",
    "candidates": "composers.knapsack.retrieval",
    "estimate": "composers.knapsack.estimates",
    "from_labels": "composers.knapsack.skills",
    "items": "composers.knapsack.retrieval",
    "one_per_skill": "composers.knapsack.retrieval",
    "psi": "composers.knapsack.online",
    "rank": "composers.knapsack.retrieval",
    "team_value": "composers.knapsack.coverage",
}

__all__ = [
    "Bm25",
    "Bounds",
    "Candidate",
    "DeadlineReached",
    "Decision",
    "Infeasible",
    "Item",
    "Limit",
    "Match",
    "OnlineKnapsack",
    "OnlineState",
    "Pair",
    "Reestimate",
    "Selection",
    "Skill",
    "TrialEstimate",
    "arrivals",
    "best_additive",
    "best_coverage",
    "best_similarity",
    "best_under_limits",
    "bounds",
    "candidates",
    "estimate",
    "from_labels",
    "items",
    "one_per_skill",
    "psi",
    "rank",
    "team_value",
]


def __getattr__(name: str) -> Any:
    try:
        return getattr(import_module(_HOME[name]), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return __all__
