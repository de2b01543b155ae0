"""Models served by vLLM on this machine: the server process, its adapters, the gate they pass, and its measured speed.

`async with serving("smollm2-135m-instruct") as server:` starts one and ends it; `server.name` opens it as a model.
vLLM itself is never imported: it runs in its own environment and is reached by HTTP.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.models.serving.adapters import Adapter, Adapters
    from orchestra.models.serving.probes import Probe
    from orchestra.models.serving.publishing import NotPublished, publish
    from orchestra.models.serving.server import Server, serving
    from orchestra.models.serving.speed import calibrate

__all__ = ["Adapter", "Adapters", "NotPublished", "Probe", "Server", "calibrate", "publish", "serving"]

_HOMES = {
    "Adapter": "adapters",
    "Adapters": "adapters",
    "NotPublished": "publishing",
    "Probe": "probes",
    "Server": "server",
    "calibrate": "speed",
    "publish": "publishing",
    "serving": "server",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
