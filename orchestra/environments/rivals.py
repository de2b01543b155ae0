"""Who sits opposite those that learn, and does not: a program, a model that plays as they do, or another team.

A rival is the same from the first step of a training to the last. An adapter without its version is therefore none: its
name means the newest weights there are, and where it is the adapter that is trained, those are the learner's own.
"""

from pathlib import Path

from graphs import AgentNode, Sampling
from orchestra.environments.opponents import opponent
from orchestra.environments.playing import Team, player
from orchestra.environments.protocol import Environment
from orchestra.environments.seating import is_file
from orchestra.errors import InputError
from orchestra.execution.runner import open_team
from orchestra.models.adapters import split_name

NAME = "opponent"
"""What a rival that is no program is called, whatever its file says."""
WITH_ADAPTERS = ("local", "vllm")
"""Providers whose models are named `BASE+ADAPTER`; elsewhere a plus may be part of a name."""


def rival(name: str, place: Environment, sampling: Sampling) -> tuple[Team, Path | None]:
    """A team that does not learn, and the folder its tools' code is looked up in.

    Args:
        name: a program, a model, or the path of a team's file.
        place: what it is to play.
        sampling: of a model; a team's file says its own.

    Raises:
        InputError: there is none, it cannot play this, or it may change while others learn.
        graphs.errors.InvalidFile: a team's file is not there, or is none.
    """
    if is_file(name):
        graph, folder = open_team(Path(name))
        for model in (graph.model, *(node.model for node in graph.nodes if isinstance(node, AgentNode))):
            _check_fixed(model)
        return graph.model_copy(update={"name": NAME}), folder
    if "/" not in name:
        return opponent(name, place), None
    _check_fixed(name)
    return player(place, model=name, sampling=sampling, name=NAME), None


def _check_fixed(model: str | None) -> None:
    """Refuse an adapter that is named without its version; the folder of one may be."""
    provider, _, rest = (model or "").partition("/")
    if provider not in WITH_ADAPTERS:
        return
    at = max(rest.find("@http://"), rest.find("@https://"))
    bare, address = (rest, "") if at < 0 else (rest[:at], rest[at:])
    base, adapter = split_name(bare)
    if adapter is not None and "@" not in adapter and "/" not in adapter:
        raise InputError(
            f"opponent {model!r} would play with the newest weights of {adapter!r}, live ones included, and so change "
            f"in training; give it a version, {provider}/{base}+{adapter}@VERSION{address}, or the path of its folder"
        )
