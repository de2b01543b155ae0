"""What an exported span says in OpenInference's names, besides its own: kind, input, output, tokens, cost.

Arize Phoenix and its relatives show a trace by these names. They derive messages, models and token counts from
`gen_ai.*` themselves; here is what they cannot derive: a kind for workflows and for nodes that are no agents, the
text that went in and came out, and the money. A reply that was not asked for anew (from a cache or a journal) counts
no tokens here, because such a page multiplies tokens by a price, and nothing was paid.
"""

from collections.abc import Mapping
from typing import Any, Final

from orchestra.traces import names
from orchestra.traces.content import canonical_json
from orchestra.traces.messages import messages_from
from orchestra.traces.records import Attribute, SpanRecord
from orchestra.traces.turns import CHATS, operation

SPAN_KIND: Final = "openinference.span.kind"
PROJECT_NAME: Final = "openinference.project.name"
"""Attribute of the resource: under which heading a page files the trace."""
INPUT_VALUE: Final = "input.value"
INPUT_TYPE: Final = "input.mime_type"
OUTPUT_VALUE: Final = "output.value"
OUTPUT_TYPE: Final = "output.mime_type"
MODEL_NAME: Final = "llm.model_name"
PROMPT_TOKENS: Final = "llm.token_count.prompt"
COMPLETION_TOKENS: Final = "llm.token_count.completion"
TOTAL_TOKENS: Final = "llm.token_count.total"
COST: Final = "llm.cost.total"
"""USD that this call was paid with."""
TOOL_NAME: Final = "tool.name"
TOOL_PARAMETERS: Final = "tool.parameters"

_TEXT, _JSON = "text/plain", "application/json"


def kind_of(record: SpanRecord) -> str:
    """`LLM`, `TOOL`, `AGENT` or, for whatever holds others together, `CHAIN`."""
    done = operation(record)
    if done in CHATS:
        return "LLM"
    if done == names.EXECUTE_TOOL:
        return "TOOL"
    node_kind = record.attributes.get(names.NODE_KIND, "agent")
    return "AGENT" if done == names.INVOKE_AGENT and node_kind == "agent" else "CHAIN"


def figures(record: SpanRecord) -> dict[str, Attribute]:
    """Kind, model, tokens and cost of a span; nothing of what was said."""
    said = record.attributes
    shown: dict[str, Attribute] = {SPAN_KIND: kind_of(record)}
    if shown[SPAN_KIND] == "TOOL" and isinstance(tool := said.get(names.TOOL_NAME), str):
        shown[TOOL_NAME] = tool
    if shown[SPAN_KIND] != "LLM":
        return shown
    if model := said.get(names.RESPONSE_MODEL) or said.get(names.REQUEST_MODEL):
        shown[MODEL_NAME] = model
    asked, replied = said.get(names.INPUT_TOKENS), said.get(names.OUTPUT_TOKENS)
    if isinstance(asked, int) and isinstance(replied, int):
        if said.get(names.CACHED) is True:
            asked = replied = 0
        shown |= {PROMPT_TOKENS: asked, COMPLETION_TOKENS: replied, TOTAL_TOKENS: asked + replied}
    if isinstance(paid := said.get(names.PAID_NANO), int):
        shown[COST] = paid / 1e9
    return shown


def input_of(record: SpanRecord, content: Mapping[str, object]) -> Any:
    """What a span was given: the task, what a model was told last, the argument of a tool; `None` when not known."""
    if names.TASK_INPUT in content:
        return content[names.TASK_INPUT]
    if names.TOOL_CALL_ARGUMENTS in content:
        arguments = content[names.TOOL_CALL_ARGUMENTS]
        alone = isinstance(arguments, Mapping) and len(arguments) == 1
        return next(iter(arguments.values())) if alone and isinstance(arguments, Mapping) else arguments
    asked = content.get(names.INPUT_MESSAGES)
    last = messages_from(asked[-1:] if isinstance(asked, list) else asked)  # a long history is not read through
    return last[-1].content if last else None


def output_of(record: SpanRecord, content: Mapping[str, object]) -> Any:
    """What came out of a span; `None` when nothing did, or it is not known."""
    if names.OUTPUT in content:
        return content[names.OUTPUT]
    if names.TOOL_CALL_RESULT in content:
        return content[names.TOOL_CALL_RESULT]
    replies = messages_from(content.get(names.OUTPUT_MESSAGES))
    if not replies:
        return None
    wanted = [{"name": call.name, "arguments": call.arguments} for reply in replies for call in reply.tool_calls]
    return "\n".join(reply.content for reply in replies if reply.content) or wanted or None


def shown_values(given: object, came_out: object) -> dict[str, Attribute]:
    """`input.value` and `output.value` with their types; absent where there is nothing."""
    shown: dict[str, Attribute] = {}
    for value, key, kind in ((given, INPUT_VALUE, INPUT_TYPE), (came_out, OUTPUT_VALUE, OUTPUT_TYPE)):
        if value is None:
            continue
        plain = isinstance(value, str)
        shown[key] = value if isinstance(value, str) else canonical_json(value)
        shown[kind] = _TEXT if plain else _JSON
    return shown


def tool_parameters(content: Mapping[str, object]) -> dict[str, Attribute]:
    """The arguments of a tool as JSON; empty when there are none."""
    arguments = content.get(names.TOOL_CALL_ARGUMENTS)
    return {} if arguments is None else {TOOL_PARAMETERS: canonical_json(arguments)}
