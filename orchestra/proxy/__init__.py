"""A proxy in front of a model server: it passes everything on, and keeps what the server knows of each call.

Frameworks drop the ids of the tokens a server read and sampled; the proxy asks for them besides, keeps them under the
id of the answer, and gives the client what it asked for and nothing else. Importing the package loads no server.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from orchestra.errors import MissingExtra

if TYPE_CHECKING:
    from orchestra.proxy.server import Proxy, proxying, serve

_HOMES = {"Proxy": "server", "proxying": "server", "serve": "server"}

__all__ = ["Proxy", "proxying", "serve"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"orchestra.proxy.{_HOMES[name]}"), name)
    except ModuleNotFoundError as cause:
        if cause.name not in ("uvicorn", "opentelemetry"):
            raise
        raise MissingExtra("proxy", "the proxy") from cause
