"""An application's values as plain JSON and blobs, and back, exactly.

What JSON says exactly is kept as JSON, short values in place and long ones as blobs; a long list in chunks, so that one
that grows is not written anew at every step; everything else as LangGraph's serialiser writes it, never as a pickle.
Content has the digest of its bytes for a name: what did not change is not stored again.

A value is a list that begins with a letter:

    ["j", value]            the value itself
    ["b", digest]           JSON in a blob
    ["l", [value, ...]]     lists, one after the other
    ["d", [[key, value]]]   a dictionary, in its order
    ["s", type, base64]     the serialiser's bytes
    ["m", type, digest]     the serialiser's bytes in a blob
"""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

CHUNK = 32
"""Elements of a list that are stored together."""

IN_PLACE = 256
"""Longest JSON that is kept in place, in characters; a blob has a row and a digest of 71."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_ATOMS = frozenset({str, bool, int, type(None)})


class Serialiser(Protocol):
    """What LangGraph calls a serialiser."""

    def dumps_typed(self, obj: Any, /) -> tuple[str, bytes]:
        """The kind of bytes, and the bytes."""
        ...

    def loads_typed(self, data: tuple[str, bytes], /) -> Any:
        """The value again."""
        ...


class Blobs(Protocol):
    """Where content goes, such as a store."""

    def blob(self, content: object) -> str:
        """Keep `content`; the digest it is found by."""
        ...


def packed(value: Any, blobs: Blobs, serialiser: Serialiser, *, plain: bool = True, in_place: int = IN_PLACE) -> Any:
    """`value` as JSON that `unpacked` turns into it again; its content is posted to `blobs`.

    Args:
        value: anything the serialiser takes.
        blobs: where content goes.
        serialiser: for what JSON cannot say.
        plain: false hands everything to the serialiser, one that encrypts for instance.
        in_place: longest JSON that is not made a blob.
    """
    if not plain:
        return _serialised(value, blobs, serialiser)
    kind = type(value)
    if kind is list and len(value) > CHUNK:
        chunks = (value[start : start + CHUNK] for start in range(0, len(value), CHUNK))
        return ["l", [packed(chunk, blobs, serialiser) for chunk in chunks]]
    if _is_plain(value):
        text = _encode(value)
        if len(text) <= in_place:
            return ["j", value]
        if kind is not dict:
            return ["b", blobs.blob(text.encode("ascii"))]
    if kind is dict and all(type(key) is str for key in value):
        return ["d", [[key, packed(inner, blobs, serialiser)] for key, inner in value.items()]]
    return _serialised(value, blobs, serialiser)


def unpacked(kept: Any, bodies: Mapping[str, bytes], serialiser: Serialiser) -> Any:
    """The value that `packed` made `kept` of.

    Args:
        kept: from `packed`.
        bodies: the content of each of its `digests`.
        serialiser: the one it was packed with, or one that reads the same.
    """
    match kept:
        case ["j", value]:
            return value
        case ["b", name]:
            return json.loads(bodies[name])
        case ["l", chunks]:
            return [element for chunk in chunks for element in unpacked(chunk, bodies, serialiser)]
        case ["d", pairs]:
            return {key: unpacked(inner, bodies, serialiser) for key, inner in pairs}
        case ["s", kind, text]:
            return serialiser.loads_typed((kind, base64.b64decode(text)))
        case ["m", kind, name]:
            return serialiser.loads_typed((kind, bodies[name]))
    raise ValueError(f"{kept!r} is not a value of a checkpoint; the store was changed by hand or by a newer Orchestra")


def digests(kept: Any) -> Iterator[str]:
    """The blobs that `kept` refers to."""
    match kept:
        case ["b", name] | ["m", _, name]:
            yield name
        case ["l", chunks]:
            for chunk in chunks:
                yield from digests(chunk)
        case ["d", pairs]:
            for _, inner in pairs:
                yield from digests(inner)


def _serialised(value: Any, blobs: Blobs, serialiser: Serialiser) -> list[str]:
    kind, body = serialiser.dumps_typed(value)
    if len(body) <= IN_PLACE:
        return ["s", kind, base64.b64encode(body).decode("ascii")]
    return ["m", kind, blobs.blob(bytes(body))]


def _is_plain(value: Any) -> bool:
    """Whether JSON gives back the very same: no tuple, no subclass, no key but text, no NaN."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is list:
        return all(map(_is_plain, value))
    if kind is dict:
        return all(type(key) is str and _is_plain(inner) for key, inner in value.items())
    return kind is float and value - value == 0.0
