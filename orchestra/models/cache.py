"""The key a completion is cached under, and the record it is cached as.

Two requests share a key only when the model could not tell them apart: the key is a SHA-256 over the model's name and
fingerprint (weights and number format), the adapter and its version, the prompt as the model reads it (`prompt_key`:
rendered text or token ids), the tools offered, every sampling setting, the seed, *and the sample index*, so that k
independent samples are k entries and never one reply counted k times. The deadline is left out: it decides whether a
reply comes, not which. A graph's identity is never part of it.

Storing is `orchestra.traces.store`'s work: `store.cached(key)`, `store.cache(key, kind, value)`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from graphs import Sampling
from orchestra.models.protocol import Completion, Model, Request, ToolCall, Usage

KIND = "completion"
"""The `kind` these entries carry in the store."""
VERSION = 1
"""Part of every key: raising it forgets all that was cached."""

_FIELDS = tuple(field.name for field in fields(Completion))


def completion_key(model: Model, request: Request) -> str:
    """The cache key of `request` when `model` answers it: 64 hexadecimal digits."""
    parts = {
        "version": VERSION,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "adapter": request.adapter,
        "prompt": model.prompt_key(request),
        "tools": [[tool.name, tool.description, tool.parameters] for tool in request.tools],
        "sampling": _sampling_record(request.sampling),
        "seed": request.seed,
        "sample_index": request.sample_index,
    }
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=256)
def _sampling_record(sampling: Sampling) -> Mapping[str, Any]:
    # A run asks thousands of times with a handful of settings.
    return sampling.model_dump(mode="json")


def to_record(completion: Completion) -> dict[str, Any]:
    """`completion` as JSON values; what was not measured is `None`, not zero and not left out."""
    record: dict[str, Any] = {name: _plain(getattr(completion, name)) for name in _FIELDS}
    return {"schema_version": 1, **record}


def from_record(record: Mapping[str, Any]) -> Completion:
    """The completion that `to_record` wrote.

    Raises:
        ValueError: when it is not such a record, or of a later version.
    """
    if record.get("schema_version") != 1:
        raise ValueError(f"a cached completion of version {record.get('schema_version')!r} cannot be read; expected 1")
    unknown = sorted(set(record) - {"schema_version", *_FIELDS})
    if unknown:
        raise ValueError(f"a cached completion holds {unknown}, which no completion has")
    values = {name: record[name] for name in _FIELDS if name in record}
    if values.get("usage") is not None:
        values["usage"] = Usage(**values["usage"])
    values["tool_calls"] = tuple(ToolCall(**call) for call in values.get("tool_calls", ()))
    for name in ("prompt_token_ids", "token_ids", "logprobs"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    return Completion(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Usage | ToolCall):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value
