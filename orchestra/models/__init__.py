"""Language models behind one protocol: what a call is, who answers it, and where embedded weights lie.

`open_model("local/smollm2-135m-instruct")` opens a model by the plug-in its name begins with; a first part that is no
installed plug-in is a provider of LiteLLM (`openai/...`, `ollama/...`). Importing this package loads no model library.
"""

import difflib
from typing import TYPE_CHECKING, cast

from orchestra.errors import InputError
from orchestra.models.protocol import (
    Capabilities,
    Completion,
    Delta,
    FinishReason,
    Message,
    Model,
    Request,
    Role,
    Scores,
    ToolCall,
    ToolSchema,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Capabilities",
    "Completion",
    "Delta",
    "FinishReason",
    "Message",
    "Model",
    "Request",
    "Role",
    "Scores",
    "ToolCall",
    "ToolSchema",
    "Usage",
    "open_model",
]

GROUP = "orchestra.models"
"""Entry-point group a model plug-in is found in."""


def open_model(name: str, **settings: object) -> Model:
    """The model `name` stands for, such as `local/smollm2-135m-instruct` or `openai/gpt-4.1-mini`.

    Args:
        name: a plug-in of the group `orchestra.models`, a slash, and what that plug-in calls the model; a first part
            that is no plug-in is handed whole to `litellm`.
        settings: what the plug-in's opener takes, such as `deterministic` and `machine_usd_per_hour`.

    Raises:
        orchestra.errors.InputError: when the name has no slash, or its plug-in knows no such model.
    """
    from orchestra import plugins

    prefix, slash, rest = name.partition("/")
    installed = set(plugins.names(GROUP))
    if not slash or not prefix or not rest:
        close = difflib.get_close_matches(name, sorted(installed), n=1)
        example = f"{close[0]}/..." if close else f"local/{name or 'smollm2-135m-instruct'}"
        raise InputError(
            f"{name!r} names no model: a model's name is its provider, a slash and a name; did you mean {example!r}?"
        )
    if prefix in installed and prefix != "litellm":
        opener, wanted = plugins.load(GROUP, prefix), rest
    else:
        opener, wanted = plugins.load(GROUP, "litellm"), rest if prefix == "litellm" else name
    return cast("Callable[..., Model]", opener)(wanted, **settings)
