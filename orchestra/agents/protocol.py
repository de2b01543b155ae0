"""The text protocol by which a model without native function calling uses tools.

The system prompt ends with `instructions(tools)`. A model that wants a tool answers with a line of its own:

    CALL calculator: 61 * 65

The first such line of a reply counts and the rest is ignored, because a small model likes to make up the answer it has
just asked for. The tool's answer arrives as the next message, `calculator: 3965`, and the model goes on. A reply
without such a line is the agent's answer.

`parse` forgives what small models get wrong without changing what is meant: list marks, quotes, bold or code marks
around the line, other letter case of `call`, parentheses instead of the colon, a code fence around it. A line that only
talks about calling (`I will call the calculator`) is no call. What a call hands over is one line of text; where the
line ends after the colon, it is the next line that is not blank.
"""

import json
import re
from collections.abc import Sequence

from graphs import Tool
from orchestra.models.protocol import ToolCall

_LIST_MARK = re.compile(r"^(?:(?:[-*•>]|\d+[.)])\s+)+")
_LINE = re.compile(
    r"^CALL(?:\s*:\s*|\s+)[`\"']?(?P<name>[A-Za-z0-9_.\-]+)[`\"']?\s*(?::(?P<text>.*)|\((?P<inside>.*)\)[\s.;]*)$",
    re.IGNORECASE,
)
_FENCE = "```"
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}


def instructions(tools: Sequence[Tool]) -> str:
    """What the system prompt says about `tools`; empty when there are none."""
    if not tools:
        return ""
    listed = "\n".join(f"- {tool.name}: {tool.description or 'no description'}" for tool in tools)
    return (
        f"You can use these tools:\n{listed}\n\n"
        f"To use one, answer with this line and nothing else:\n"
        f"CALL {tools[0].name}: its input\n"
        f"The tool's answer comes in the next message. When you need no tool, answer the question."
    )


def parse(reply: str) -> ToolCall | None:
    """The call `reply` asks for; `None` when it asks for none.

    >>> parse("Let me see. CALL it is not.") is None
    True
    >>> parse("CALL calculator: 61 * 65").arguments
    '{"input": "61 * 65"}'
    """
    lines = [line for line in reply.splitlines() if not line.lstrip().startswith(_FENCE)]
    for number, line in enumerate(lines):
        found = _LINE.match(_unmarked(line))
        if found is None:
            continue
        text = found["inside"] if found["text"] is None else found["text"]
        if not text.strip():
            text = next((later for later in lines[number + 1 :] if later.strip()), "")
        arguments = json.dumps({"input": _bare(text)}, ensure_ascii=False)
        return ToolCall(id="call", name=found["name"], arguments=arguments)
    return None


def _unmarked(line: str) -> str:
    """`line` without a list mark, and without the bold or code marks it opens with and their ends."""
    line = _LIST_MARK.sub("", line.strip())
    for mark in ("**", "__", "*", "_", "`", '"'):
        if line.startswith(mark):
            line = line.removeprefix(mark)
            # They end after the line or after its head: `**CALL clock: now**`, `**CALL clock:** now`.
            line = line.removesuffix(mark) if line.endswith(mark) else line.replace(mark, "", 1)
    return line.strip()


def _bare(text: str) -> str:
    """`text` without quotes around the whole of it; of JSON with one value, or an `input`, that value."""
    text = text.strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(text[1:-1]):
        text = text[1:-1].strip()
    try:
        data = json.loads(text) if text.startswith("{") else None
    except ValueError:
        return text
    if isinstance(data, dict) and (len(data) == 1 or "input" in data):
        return str(data.get("input", next(iter(data.values()))))
    return text
