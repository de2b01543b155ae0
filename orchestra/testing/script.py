r"""What a scripted model says: replies in order, a function of the request, or a file of either.

A file is one of three things, by its suffix and content:

- text: one reply a line, in the order of the calls (`\n` inside a line is a line break);
- JSON or YAML holding a list of texts: the same;
- JSON or YAML holding a list of rules (or a mapping with `rules`): each call is answered by the first rule whose
  `match`, a regular expression, is found in the last user message.

```yaml
rules:
  - match: 'the answer is (\d+)'
    reply: '\1'                    # groups of the match may be quoted
  - match: 'guess'
    reply: ['heads', 'tails']      # the request's sample index chooses
  - match: 'boom'
    error: 'the server fell over'  # a ModelError; `retryable: true` says it may be tried again
  - match: ''
    reply: 'I do not know.'
```
"""

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from orchestra.errors import InputError, ModelError
from orchestra.models.protocol import Completion, Request, ToolCall

Reply: TypeAlias = str | Completion | ToolCall | Exception
"""Text, a call of a tool, a whole completion (`usage=None` stays unknown), or an error to raise."""
Script: TypeAlias = Sequence[Reply] | Callable[[Request], Reply]
"""Replies in the order of the calls, or a function of the request."""

_RULE_KEYS = ("match", "reply", "error", "retryable")


class ScriptExhausted(ModelError):
    """A call was made for which the script holds no reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a rule file."""

    match: re.Pattern[str]
    """Looked for in the last user message."""
    replies: tuple[str, ...] = ()
    """Templates for `re.Match.expand`; the sample index chooses, going round."""
    error: str | None = None
    """`None` means it answers."""
    retryable: bool = False


@dataclass(frozen=True)
class Rules:
    """A script that is a function of the request: the first rule that matches answers."""

    rules: tuple[Rule, ...]
    where: str
    """File the rules came from, for messages."""

    def __call__(self, request: Request) -> Reply:
        """What the first matching rule says.

        Raises:
            ScriptExhausted: when no rule matches.
        """
        text = last_user_text(request)
        for rule in self.rules:
            found = rule.match.search(text)
            if found is None:
                continue
            if rule.error is not None:
                return ModelError(rule.error, retryable=rule.retryable)
            return found.expand(rule.replies[request.sample_index % len(rule.replies)])
        raise ScriptExhausted(
            f"no rule of {self.where!r} matches the prompt {text!r}; add a rule, or a last one with match: ''"
        )


def last_user_text(request: Request) -> str:
    """What the user said last in `request`; empty when the user said nothing."""
    return next((m.content for m in reversed(request.messages) if m.role == "user"), "")


def echo(request: Request) -> str:
    """What the user said last, said again."""
    return last_user_text(request)


def read_script(path: Path) -> Script:
    """The script a file holds; the module's docstring shows the three forms.

    Raises:
        InputError: when it cannot be read, is empty, or a rule is malformed; the message names the rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise InputError(f"cannot read the script {str(path)!r}: {cause}; a scripted model is scripted/FILE") from cause
    if path.suffix.lower() not in {".json", ".yaml", ".yml"}:
        lines = [line.replace("\\n", "\n") for line in text.splitlines() if line.strip()]
        return _some(lines, path)
    try:
        data = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as cause:
        raise InputError(f"the script {str(path)!r} is not valid {path.suffix[1:].upper()}: {cause}") from cause
    if isinstance(data, dict):
        unknown = sorted(set(data) - {"schema_version", "rules"})
        if unknown or "rules" not in data:
            raise InputError(
                f"the script {str(path)!r} needs the key 'rules' alone" + (f", not {unknown}" if unknown else "")
            )
        data = data["rules"]
    if not isinstance(data, list):
        raise InputError(f"the script {str(path)!r} must hold a list of replies or of rules")
    if all(isinstance(item, str) for item in data):
        return _some(data, path)
    return Rules(tuple(_rule(item, f"{str(path)!r}, rule {at}") for at, item in enumerate(data, 1)), str(path))


def _some(replies: list[str], path: Path) -> tuple[str, ...]:
    if not replies:
        raise InputError(f"the script {str(path)!r} is empty; write one reply a line")
    return tuple(replies)


def _rule(item: object, where: str) -> Rule:
    if not isinstance(item, dict):
        raise InputError(f"{where}: expected a mapping with 'match' and 'reply', got {item!r}")
    for key in item:
        if key not in _RULE_KEYS:
            close = difflib.get_close_matches(str(key), _RULE_KEYS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(_RULE_KEYS)}"
            raise InputError(f"{where}: unknown key {key!r}; {hint}")
    if ("reply" in item) == ("error" in item):
        raise InputError(f"{where}: give either 'reply' or 'error'")
    try:
        pattern = re.compile(str(item.get("match", "")), re.DOTALL)
    except re.error as cause:
        raise InputError(f"{where}: match {item['match']!r} is not a regular expression: {cause}") from cause
    if "error" in item:
        return Rule(match=pattern, error=str(item["error"]), retryable=bool(item.get("retryable", False)))
    replies = item["reply"] if isinstance(item["reply"], list) else [item["reply"]]
    if not replies:
        raise InputError(f"{where}: 'reply' is an empty list; write at least one")
    return Rule(match=pattern, replies=tuple(_template(str(reply), pattern, where) for reply in replies))


def _template(reply: str, pattern: re.Pattern[str], where: str) -> str:
    try:
        # An empty alternative always matches and has the same groups, so templates are checked before any call.
        matched = re.compile(f"{pattern.pattern}\n|", pattern.flags).search("")
        assert matched is not None
        matched.expand(reply)
    except (re.error, IndexError) as cause:
        raise InputError(f"{where}: reply {reply!r} quotes a group its match does not have: {cause}") from cause
    return reply
