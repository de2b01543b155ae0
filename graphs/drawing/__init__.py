"""How a team looks: as Mermaid or DOT text, or as a picture.

Every drawing runs left to right by stage (`graphs.schedule.stages`), tells the node kinds apart by shape and colour,
shows prices, and draws what is heard in the next round as a dashed line.
"""

from importlib import import_module
from pathlib import Path

from graphs.drawing.dot import dot
from graphs.drawing.mermaid import mermaid
from graphs.model import AgentGraph

__all__ = ["dot", "figure", "mermaid"]


def figure(graph: AgentGraph, path: Path | str) -> None:
    """Draw `graph` into a PNG or SVG file, by suffix.

    Raises:
        InvalidFile: when the suffix is neither, or the file cannot be written.
        ImportError: when matplotlib is missing; the message names the extra.
    """
    try:
        draw = import_module("graphs.drawing.figure").draw  # brings matplotlib, so only when asked
    except ImportError as cause:
        if cause.name != "matplotlib":
            raise
        raise ImportError("a picture needs an extra: pip install 'orchestra-mas[draw]'", name="matplotlib") from cause
    finally:
        globals()["figure"] = _figure  # importing the module of that name has put it in this function's place
    draw(graph, Path(path))


_figure = figure
