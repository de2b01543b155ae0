"""Taking secrets out before anything reaches disk.

A redactor is a function from text to text. It is shown every string of what is about to be written. Where it changes
one, token ids and log-probabilities that came with it are dropped: they encode the same secret.
"""

from collections.abc import Callable, Mapping

Redactor = Callable[[str], str]
"""Returns its argument, or a version of it that may be written down."""

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


def redacted_reply(reply: Mapping[str, object], redact: Redactor) -> Mapping[str, object]:
    """A reply as it may be written down: redacted, and then without token ids and log-probabilities."""
    clean = redacted(reply, redact)
    assert isinstance(clean, dict)
    if clean == reply:
        return reply
    bare = without_encodings(clean)
    assert isinstance(bare, dict)
    return bare
