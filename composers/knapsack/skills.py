"""Skills: what the tasks need, how much each need weighs, and which tasks test it.

A skill comes from the tasks' labels, or is written by a named model when that is asked for. Weights add up to 1.

Source:
    Yuan et al. 2025, arXiv:2510.16499, "shared first step": up to six skills, each with name, description, importance
    weight and two test queries, written by a language model that reads the task description.

    Deviation: labels are free, exact and the default, so the weight of a labelled skill is its share of the tasks (or
    equal), not a model's opinion, there may be more than six, and its queries are the user's own tasks. When a model
    writes the skills, its weights are scaled to add up to 1 (a common factor changes no decision: `L`, `U` and every
    density carry it) and the queries are the tasks most similar to the skill, not invented ones.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from graphs.model import Value
from orchestra.errors import InputError

GENERAL = "general"
"""The skill of tasks without a label."""

MOST_SKILLS = 6
"""Most skills asked of a model, as in the paper."""

Similarity = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]
"""`similarity(queries, documents)`: `[queries, documents]`, higher is closer."""


class Labelled(Protocol):
    """What is read of a task."""

    @property
    def id(self) -> str:
        """Unique among the tasks."""

    @property
    def input(self) -> str:
        """What the team is asked."""

    @property
    def skills(self) -> tuple[str, ...]:
        """Labels; may be empty."""


class Skill(Value):
    """Something the tasks need."""

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    """What retrieval compares with the components."""
    weight: float = Field(gt=0, le=1)
    """Importance; the weights of all skills add up to 1."""
    queries: tuple[str, ...] = ()
    """Ids of the tasks that test it."""


def from_labels(
    tasks: Sequence[Labelled], *, weights: Literal["share", "equal"] = "share", examples: int = 3
) -> tuple[Skill, ...]:
    """One skill per label, in order of name.

    Args:
        tasks: those a composer may look at: the trial split.
        weights: `share` is the label's share of the tasks (a task with several labels counts once, split among
            them); `equal` gives every label the same.
        examples: how many task inputs go into the description, which is the name's words followed by them.

    Raises:
        InputError: there are no tasks.
    """
    if not tasks:
        raise InputError('there are no tasks to read skills from: mark some with "split": "trial"')
    members: dict[str, list[Labelled]] = {}
    shares: dict[str, float] = {}
    for task in tasks:
        labels = tuple(dict.fromkeys(task.skills)) or (GENERAL,)
        for label in labels:
            members.setdefault(label, []).append(task)
            shares[label] = shares.get(label, 0.0) + 1 / len(labels)
    return tuple(
        Skill(
            name=name,
            description=_description(name, [task.input for task in members[name][:examples]]),
            weight=min(1.0, shares[name] / len(tasks)) if weights == "share" else 1 / len(members),
            queries=tuple(task.id for task in members[name]),
        )
        for name in sorted(members)
    )


def _description(name: str, inputs: Sequence[str]) -> str:
    said = " ".join(re.split(r"[_\-\s.]+", name)).strip() or name
    return f"{said}: {' | '.join(' '.join(text.split())[:200] for text in inputs)}" if inputs else said


def prompt(tasks: Sequence[Labelled], *, most: int = MOST_SKILLS, examples: int = 12) -> str:
    """What a model is asked so that its reply can be read by `parse`.

    Args:
        tasks: those a composer may look at; evenly spaced ones are shown.
        most: most skills asked for.
        examples: most tasks shown.

    Raises:
        InputError: there are no tasks.
    """
    if not tasks:
        raise InputError('there are no tasks to describe: mark some with "split": "trial"')
    shown = [tasks[index * len(tasks) // examples] for index in range(examples)] if len(tasks) > examples else tasks
    lines = "\n".join(f"- {' '.join(task.input.split())[:200]}" for task in shown)
    return (
        f"These are examples of the tasks an assistant must solve:\n\n{lines}\n\n"
        f"List the skills it needs, at most {most}. Write one skill per line, and nothing else, as\n\n"
        "name | description | weight\n\n"
        "The name is one or two words. The description is one sentence on what a tool for it does. "
        "The weight is a number from 1 (rarely needed) to 10 (needed by most tasks)."
    )


def parse(reply: str, *, most: int = MOST_SKILLS) -> tuple[Skill, ...]:
    """The skills a model wrote, one per line `name | description | weight`; other lines are passed over.

    Bullets, numbers, bold type, table borders, headers and code fences do no harm. Weights are scaled to add up to 1.

    Args:
        reply: the model's.
        most: skills beyond this many are an error, since cutting the list would change the weights.

    Raises:
        InputError: no line is a skill, or the skills contradict one another: every defect at once.
    """
    found = [skill for line in reply.splitlines() if (skill := _skill_line(line)) is not None]
    if not found:
        raise InputError(
            f"no line of the reply reads 'name | description | weight': {reply[:200]!r}; "
            'ask again, ask a larger model, or label the tasks with "skills"'
        )
    defects = [f"it lists {len(found)} skills, at most {most} were asked for"] if len(found) > most else []
    names = [name for name, _, _ in found]
    defects += [f"the skill {name!r} occurs twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    defects += [f"the skill {name!r} weighs {weight:g}, not more than 0" for name, _, weight in found if weight <= 0]
    if defects:
        raise InputError("the skills a model wrote cannot be used; ask again:\n  - " + "\n  - ".join(defects))
    whole = sum(weight for _, _, weight in found)
    return tuple(Skill(name=name, description=text, weight=weight / whole) for name, text, weight in found)


_MARK = re.compile(r"^\s*(?:[-*•+]\s+|\(?\d+[.):]\s*)?")
_WEIGHT = re.compile(r"(?:weight|importance)?\s*[:=]?\s*([-+]?\d+(?:[.,]\d+)?)\s*(?:%|/\s*\d+)?\s*$", re.IGNORECASE)


def _skill_line(line: str) -> tuple[str, str, float] | None:
    cells = [cell.strip(" \t`*_\"'<>") for cell in _MARK.sub("", line).strip().strip("|").split("|")]
    if len(cells) < 3:
        return None
    weight = _WEIGHT.fullmatch(cells[-1])
    name = "-".join(re.findall(r"\w+", _MARK.sub("", cells[-3] if len(cells) > 3 else cells[0]).casefold()))
    if weight is None or not name or not cells[-2]:
        return None
    return name, f"{name.replace('-', ' ')}: {cells[-2]}", float(weight[1].replace(",", "."))


def with_queries(skills: Sequence[Skill], tasks: Sequence[Labelled], similarity: Similarity) -> tuple[Skill, ...]:
    """The skills, each with the tasks that are more similar to it than to any other.

    A skill that is no task's closest gets the one task most similar to it, so that it can be tested at all.

    Raises:
        InputError: there are no tasks.
    """
    if not tasks:
        raise InputError('there are no tasks to test skills with: mark some with "split": "trial"')
    scores = similarity([task.input for task in tasks], [skill.description for skill in skills])
    closest = scores.argmax(axis=1)
    return tuple(
        skill.model_copy(
            update={
                "queries": tuple(task.id for task, at in zip(tasks, closest, strict=True) if at == position)
                or (tasks[int(scores[:, position].argmax())].id,)
            }
        )
        for position, skill in enumerate(skills)
    )


def weights_of(skills: Sequence[Skill]) -> Mapping[str, float]:
    """Weight by name.

    Raises:
        InputError: a name occurs twice.
    """
    named = {skill.name: skill.weight for skill in skills}
    if len(named) < len(skills):
        raise InputError("two skills have the same name: give each its own")
    return named
