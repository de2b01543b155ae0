"""What an agent is shown: its role, the task, and what the others said.

Text is put in by plain replacement, in one pass: braces in a task are braces, and a task that happens to read
`{messages}` stays as it is.
"""

import re
from collections.abc import Sequence

from graphs import AgentNode
from orchestra.models.protocol import Message

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(task|messages)\}")
_SURPLUS_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*){2,}")


def join(inbox: Sequence[tuple[str, str]]) -> str:
    """Messages in channel order, each under its sender's name.

    >>> print(join([("calculator", "61 * 65 = 3965"), ("clock", "noon")]))
    calculator: 61 * 65 = 3965
    clock: noon
    """
    return "\n".join(f"{sender}: {text}" for sender, text in inbox)


def render(node: AgentNode, task: str, inbox: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
    """The messages `node` is asked with: its role, if it has one, and its layout filled in.

    Args:
        node: the agent whose turn it is.
        task: text of the task.
        inbox: sender and text of each message that arrived, in channel order.
    """
    user = Message(role="user", content=filled(node.layout, task, join(inbox)))
    return (Message(role="system", content=node.role), user) if node.role else (user,)


def filled(layout: str, task: str, messages: str) -> str:
    """`layout` with its placeholders replaced; one that has nothing to show takes its blank lines with it."""
    shown = {"task": task, "messages": messages}
    # Blank lines are thinned out in the layout, never in what people or agents wrote.
    bare = layout
    for name, text in shown.items():
        if not text and f"{{{name}}}" in bare:
            bare = _SURPLUS_LINES.sub("\n\n", bare.replace(f"{{{name}}}", "")).strip()
    return _PLACEHOLDER.sub(lambda found: shown[found[1]] if found[1] else found[0][0], bare)
