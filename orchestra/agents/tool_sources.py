"""Where a tool's code lies, who vouches for it, and its hash: all found out without importing it.

A tool's `call` is looked up beside the inventory file first, then among the installed plug-ins of the group
`orchestra.tools`, and only for those who asked for it with `--trust` among everything that can be imported.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path

from graphs import Tool
from orchestra.agents.mcp_config import PREFIX, check_mcp, server_of
from orchestra.errors import InputError, UnknownPlugin, Untrusted
from orchestra.plugins import closest

GROUP = "orchestra.tools"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tool's function is."""

    module: str
    function: str
    folder: Path | None
    """Folder the module is looked up in; `None` means the interpreter's own search path."""
    file: Path | None
    """The module's file; `None` where there is none to read."""


def source_of(call: str, folders: Sequence[Path] = (), *, trust: bool = False, what: str = "tool call") -> Source:
    """Where the function that `call` names is, looking through `folders` first.

    Args:
        call: `module:function`, or the name of an installed plug-in.
        folders: where the module is looked up first.
        trust: whether it may lie anywhere else.
        what: what is being looked up, for messages.

    Raises:
        Untrusted: when it lies outside the folders and the installed plug-ins, and `trust` is not given.
        UnknownPlugin: when `call` is a plug-in's name and there is none of that name.
        InputError: when `call` is not of the form `module:function`.
    """
    module, colon, function = call.partition(":")
    if not colon:
        return _plugin(call, folders)
    if not function or not all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
        raise InputError(f"{what} {call!r} is not of the form module:function; write for example 'tools:add'")
    for folder in folders:
        file = _file_beside(module, folder)
        if file is not None:
            root = folder.resolve()
            if not trust and not file.resolve().is_relative_to(root):
                raise Untrusted(
                    f"{what} {call!r}: {str(file)!r} leads out of {str(root)!r}; copy it there, or pass --trust"
                )
            return Source(module, function, root, file)
    if trust or any(point.value.partition(" ")[0] == call for point in entry_points(group=GROUP)):
        return Source(module, function, None, _file_installed(module))
    where = " or ".join(repr(str(folder)) for folder in folders) or "an inventory's folder (none was given)"
    raise Untrusted(
        f"{what} {call!r}: there is no module {module!r} in {where}, and no installed plug-in is that function; "
        f"correct the name, put the file there, or pass --trust to run code from elsewhere"
    )


def check_system(tool: Tool, system: str = os.name) -> None:
    """Refuse a tool where its worker process cannot be started and killed as it must be.

    Args:
        system: as `os.name` has it.

    Raises:
        InputError: the system is neither Linux nor macOS nor another Unix.
    """
    if system != "posix":
        raise InputError(
            f"tool {tool.name!r} cannot run on this system ({system!r}): its worker process needs Linux, or macOS, "
            "where its memory is not limited; on Windows use WSL, or a team without tools"
        )


def check_trusted(tool: Tool, folder: Path | None, trust: bool = False) -> None:
    """Refuse a tool whose code is neither beside its inventory nor an installed plug-in; nothing is imported.

    Raises:
        Untrusted: when its code lies elsewhere and `trust` is not given.
        InputError: when its `call` is malformed or names an unknown plug-in or MCP server, or no tool can run here.
    """
    if tool.call.startswith(PREFIX):
        check_mcp(tool, _as_folders(folder), trust=trust)
    else:
        check_system(tool)
        source_of(tool.call, _as_folders(folder), trust=trust)


def source_hash(tool: Tool, folder: Path | None) -> str:
    """SHA-256 of the bytes of the tool's module file and of its `call`.

    It changes when the tool's own file does. Modules that file imports, and data it reads, are not followed. A module
    without a file of its own (a built-in one) counts with the interpreter's version instead; a tool of an MCP server,
    with how the server is reached.

    Raises:
        InputError: when its `call` is malformed or names an unknown plug-in.
    """
    if tool.call.startswith(PREFIX):
        return hashlib.sha256(f"{server_of(tool.call, _as_folders(folder))}\0{tool.call}".encode()).hexdigest()
    source = source_of(tool.call, _as_folders(folder), trust=True)
    content = source.file.read_bytes() if source.file is not None else sys.version.encode()
    digest = hashlib.sha256(hashlib.sha256(content).digest())
    digest.update(tool.call.encode())
    return digest.hexdigest()


def _as_folders(folder: Path | None) -> tuple[Path, ...]:
    return () if folder is None else (folder,)


def _plugin(name: str, folders: Sequence[Path]) -> Source:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name in points:
        point = points[name]
        return Source(point.module, point.attr, None, _file_installed(point.module))
    beside = [folder for folder in folders if _file_beside(name, folder) is not None]
    hint = f"for a function in {name}.py write '{name}:function'" if beside else closest(name, points)
    raise UnknownPlugin(f"tool call {name!r}: no plug-in of that name in {GROUP}; {hint}")


def _file_beside(module: str, folder: Path) -> Path | None:
    path = folder.joinpath(*module.split("."))
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _file_installed(module: str) -> Path | None:
    """The file `module` would be imported from, found part by part so that no package is imported on the way."""
    path: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for depth in range(len(parts)):
        spec = _spec(".".join(parts[: depth + 1]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    file = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
    return file if file is not None and file.is_file() else None


def _spec(module: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(module, path)
        if spec is not None:
            return spec
    return None
