"""Taking secrets out before anything reaches disk.

A redactor is a function from text to text. It is shown every string of what is about to be written but the ids and
digests that records are found by: two tasks whose numbers it takes out would be one. Where it changes a string, token
ids and log-probabilities that came with it are dropped: they encode the same secret.
"""

from collections.abc import Callable, Mapping

from orchestra.traces import names
from orchestra.traces.content import is_digest

Redactor = Callable[[str], str]
"""Returns its argument, or a version of it that may be written down."""

_DIGESTS = frozenset({"asked", "code"})
"""Of a journal's reply, what says which question it answers."""
_ENCODINGS = frozenset({"prompt_token_ids", "token_ids", "logprobs", "orchestra.token_ids"})


def redacted(value: object, redact: Redactor) -> object:
    """`value` with every string in it passed through `redact`; equal to `value` when nothing was changed.

    >>> redacted({"text": ["my key is 123"]}, lambda text: text.replace("123", "***"))
    {'text': ['my key is ***']}
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted(item, redact) for item in value)
    return value


def without_encodings(value: object) -> object:
    """`value` with token ids and log-probabilities set to `None`, at any depth."""
    if isinstance(value, Mapping):
        return {key: None if key in _ENCODINGS else without_encodings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_encodings(item) for item in value]
    return value


def cleaned(value: object, redact: Redactor | None) -> object:
    """`value` as it may be written down; unchanged where there is no redactor.

    >>> cleaned("my key is 123", None)
    'my key is 123'
    """
    return value if redact is None else redacted(value, redact)


def redacted_attributes(attributes: Mapping[str, object], redact: Redactor) -> dict[str, object]:
    """A span's attributes as they may be written down; ids, and digests of what was said, are as they were."""
    return {
        key: value if key in names.IDENTIFIERS or is_digest(value) else redacted(value, redact)
        for key, value in attributes.items()
    }


def redacted_reply(reply: Mapping[str, object], redact: Redactor) -> Mapping[str, object]:
    """A reply as it may be written down: redacted, and then without token ids and log-probabilities."""
    clean = redacted({key: value for key, value in reply.items() if key not in _DIGESTS}, redact)
    assert isinstance(clean, dict)
    clean |= {key: reply[key] for key in _DIGESTS & reply.keys()}
    if clean == reply:
        return reply
    bare = without_encodings(clean)
    assert isinstance(bare, dict)
    return bare
