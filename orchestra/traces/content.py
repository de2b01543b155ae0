"""Content by reference: canonical JSON and the digest that names it.

A piece of content is stored once, whoever refers to it: equal values have equal canonical JSON and so equal digests.
The text is pure ASCII, so any string a model can produce survives any database, lone surrogates and NUL included.
"""

import hashlib
import json
from typing import Final

DIGEST_PREFIX: Final = "sha256:"
"""Opens every digest, so that a reference is told from content that merely is a string."""

_DIGEST_LENGTH: Final = len(DIGEST_PREFIX) + 64
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical_json(value: object) -> str:
    """`value` as JSON with sorted keys and no white space, ASCII only.

    >>> canonical_json({"b": 1, "a": ["x"]})
    '{"a":["x"],"b":1}'

    Raises:
        ValueError: when `value` holds something JSON cannot say, such as an object or NaN.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError) as cause:
        raise ValueError(f"content must be JSON: {cause}; convert it to plain values first") from cause


def digest(body: bytes) -> str:
    """The name of `body` in the blob table."""
    return DIGEST_PREFIX + hashlib.sha256(body).hexdigest()


def is_digest(value: object) -> bool:
    """Whether `value` refers to a blob."""
    return isinstance(value, str) and len(value) == _DIGEST_LENGTH and value.startswith(DIGEST_PREFIX)
