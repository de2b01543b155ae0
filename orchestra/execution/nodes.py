"""What each node kind does when it is its turn.

An agent asks its model, and goes on asking while the model calls tools: by native function calling where the model
has it, else by the text protocol of `orchestra.agents.protocol`. A tool node calls a function. A vote counts what
arrived. A router names the channels that fire. A tool that fails is a fault of the episode, not its end: the team
goes on without that message, as it would without the tool.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from graphs import PERSON, AgentNode, RouterNode, Sampling, Tool, ToolNode, VoteNode
from orchestra.agents.mcp_config import PREFIX
from orchestra.agents.prompts import join, render
from orchestra.agents.protocol import instructions, parse
from orchestra.errors import TeamError, ToolError
from orchestra.execution.asking import Telling
from orchestra.execution.calls import Reply
from orchestra.execution.events import Cost, Listener, Token, ToolUsed
from orchestra.execution.people import Question, chosen
from orchestra.execution.play import Play
from orchestra.execution.transcripts import transcript
from orchestra.execution.votes import tally
from orchestra.models.protocol import Message, Model, Request, ToolCall, ToolSchema
from orchestra.traces import names

MOST_TOOL_STEPS = 8
"""Model calls one agent may make in one turn before its last reply is taken as it is."""
MOST_CALLS_AT_ONCE = 8
"""Functions that one reply may call; for the others its model is told to ask again, so that none fans out at will."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a node said, and where it goes."""

    text: str | None
    """`None` means it has nothing to say."""
    fired: Collection[str] | None = None
    """Targets a router chose; `None` means every channel carries the reply."""


async def speak(play: Play, node: AgentNode | ToolNode | VoteNode | RouterNode, key: str) -> Turn:
    """The turn of `node`, given what it has heard.

    Args:
        key: prefix of the journal keys of the calls it makes.

    Raises:
        EpisodeError: when it cannot take its turn.
    """
    if isinstance(node, ToolNode):
        return await _tool_turn(play, node, key)
    if isinstance(node, VoteNode):
        heard = play.heard(node.id)
        return Turn(tally(heard, node) if heard else None)
    if isinstance(node, RouterNode):
        return await _router_turn(play, node, key)
    return await _agent_turn(play, node, key)


async def _tool_turn(play: Play, node: ToolNode, key: str) -> Turn:
    heard = play.heard(node.id)
    try:
        return Turn(await _use(play, node.id, node.tool, _input(play, node.tool, heard), key))
    except ToolError as failure:
        if node.tool.takes == "messages":  # as in LangGraph, where a node that raises ends the run
            raise
        play.faults.append(f"{node.id}: {failure}")
        return Turn(None)


def _input(play: Play, tool: Tool, heard: Sequence[tuple[str, str]]) -> str:
    if tool.takes == "messages":
        return transcript(play)
    return join(heard) if heard else play.task


async def _router_turn(play: Play, node: RouterNode, key: str) -> Turn:
    heard = play.heard(node.id)
    text = join(heard) if heard else play.task
    targets = [channel.target for channel in play.graph.channels if channel.source == node.id]
    if node.call is not None:
        asked = _input(play, node.call, heard)
        choices = () if node.default else tuple(targets)
        answer = await _use(play, node.id, node.call, asked, key, choices=choices, again=True) or ""
        wanted = chosen(answer)
        if not wanted:
            return Turn(text, ())
        fired = tuple(name for name in wanted if name in targets)
    else:
        choice = f"{text}\n\nAnswer with one of: {', '.join(targets)}"
        messages = (Message(role="system", content=node.role),) if node.role else ()
        reply = await _ask(play, node, (*messages, Message(role="user", content=choice)), (), key)
        answer = reply.completion.text
        fired = _named(answer, targets)
    fired = fired or node.default
    if not fired:
        raise TeamError(
            f"router {node.id!r} answered {answer!r}, which names none of its targets ({', '.join(targets)}); "
            f"give it a `default` or mend its function or prompt"
        )
    return Turn(text, fired)


def _named(answer: str, targets: Sequence[str]) -> tuple[str, ...]:
    """The target that `answer` names first, as a word of its own: `agent-1` is not in `agent-10`."""
    longest_first = sorted(targets, key=len, reverse=True)
    words = rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])"
    found = re.search(words, answer, re.IGNORECASE)
    return () if found is None else tuple(name for name in targets if name.lower() == found[0].lower())[:1]


async def _agent_turn(play: Play, node: AgentNode, key: str) -> Turn:
    memory = play.memories.setdefault(node.id, []) if node.memory == "transcript" else []
    model = play.calls.open_model(node.model or play.graph.model or play.default_model)
    by_text = bool(node.tools) and not model.capabilities.tools
    task = play.news if memory and play.news is not None else play.task
    fresh = list(render(node, task, play.heard(node.id)))
    if by_text:
        fresh = _with_instructions(fresh, node.tools)
    if memory:  # the system prompt and the task are already there
        fresh = [message for message in fresh if message.role != "system"]
    memory.extend(fresh)
    offered = () if by_text else await _offered(play, node)
    for step in range(MOST_TOOL_STEPS):
        reply = await _ask(play, node, tuple(memory), offered, f"{key}/{step}", model=model)
        memory.append(_as_message(reply))
        wanted = _wanted(reply, by_text)
        if not wanted:
            break
        for position, call in enumerate(wanted):  # some providers give every call the same id
            if position < MOST_CALLS_AT_ONCE:
                memory.append(await _tool_reply(play, node, call, f"{key}/{step}/{position}", by_text))
            else:
                told = f"not called: at most {MOST_CALLS_AT_ONCE} at once; ask again for what is still needed"
                memory.append(Message(role="tool", content=told, tool_call_id=call.id))
    return Turn(reply.completion.text.strip())


async def _offered(play: Play, node: AgentNode) -> tuple[ToolSchema, ...]:
    """The node's tools as its model is shown them; those of an MCP server with the parameters that server states."""
    offered = []
    for tool in node.tools:
        try:
            parameters = await play.calls.parameters(tool, play.folder)
        except ToolError as failure:
            play.faults.append(f"{node.id}: {failure}")
            continue
        stated = {} if parameters is None else {"parameters": dict(parameters)}
        offered.append(ToolSchema(name=tool.name, description=tool.description, **stated))
    return tuple(offered)


def _with_instructions(messages: list[Message], tools: tuple[Tool, ...]) -> list[Message]:
    manual = instructions(tools)
    if messages and messages[0].role == "system":
        return [replace(messages[0], content=f"{messages[0].content}\n\n{manual}"), *messages[1:]]
    return [Message(role="system", content=manual), *messages]


def _as_message(reply: Reply) -> Message:
    completion = reply.completion
    return Message(
        role="assistant",
        content=completion.text,
        tool_calls=completion.tool_calls,
        prompt_token_ids=completion.prompt_token_ids,
        token_ids=completion.token_ids,
    )


def _wanted(reply: Reply, by_text: bool) -> tuple[ToolCall, ...]:
    if not by_text:
        return reply.completion.tool_calls
    call = parse(reply.completion.text)
    return () if call is None else (call,)


async def _tool_reply(play: Play, node: AgentNode, call: ToolCall, key: str, by_text: bool) -> Message:
    tool = next((tool for tool in node.tools if tool.name == call.name), None)
    if tool is None:
        said = f"there is no tool {call.name!r}; the tools are {', '.join(t.name for t in node.tools)}"
    else:
        try:
            said = await _use(play, node.id, tool, _argument(tool, call), key, call_id=call.id) or "(nothing to say)"
        except ToolError as failure:
            play.faults.append(f"{node.id}: {failure}")
            said = f"the tool failed: {failure}"
    if by_text:  # a model without function calling knows no tool role
        return Message(role="user", content=f"{call.name}: {said}")
    return Message(role="tool", content=said, tool_call_id=call.id)


def _argument(tool: Tool, call: ToolCall) -> str:
    """The text handed to the function: the `input` of the JSON arguments, or the arguments as they stand."""
    if tool.call.startswith(PREFIX):  # an MCP server takes several
        return call.arguments
    try:
        arguments = json.loads(call.arguments)
    except json.JSONDecodeError:
        return call.arguments
    if isinstance(arguments, dict) and len(arguments) == 1:
        return str(next(iter(arguments.values())))
    return str(arguments.get("input", call.arguments)) if isinstance(arguments, dict) else str(arguments)


async def _use(
    play: Play,
    node_id: str,
    tool: Tool,
    text: str,
    key: str,
    *,
    call_id: str | None = None,
    choices: tuple[str, ...] = (),
    again: bool = False,
) -> str | None:
    """What a tool, or a person, says about `text`.

    Args:
        choices: what a person chooses between.
        again: call a tool again that failed in an earlier attempt, because the play failed with it.
    """
    question = None
    if tool.call == PERSON:
        question = Question(
            key=key, text=text, node=node_id, episode_id=play.key, task_id=play.task_id, choices=choices
        )
    price = play.allowances.tool_nano.get(tool.name, 0)
    try:
        play.count_use(tool, key)
        said = await play.calls.use(
            tool,
            text,
            key=key,
            folder=play.folder,
            call_id=call_id,
            question=question,
            again=again,
            purse=play.purse_of(node_id) if price else None,
            price_nano=price,
        )
        play.spent.list_nano += price
    except ToolError as failure:
        if play.listener is not None:
            play.listener(ToolUsed(node_id, tool.name, text, None, str(failure)))
        raise
    if play.listener is not None:
        play.listener(ToolUsed(node_id, tool.name, text, said))
    return said


async def _ask(
    play: Play,
    node: AgentNode | RouterNode,
    messages: tuple[Message, ...],
    tools: tuple[ToolSchema, ...],
    key: str,
    *,
    model: Model | None = None,
) -> Reply:
    model = model or play.calls.open_model(node.model or play.graph.model or play.default_model)
    sampling = node.sampling or play.graph.sampling
    reply = await play.calls.complete(
        model,
        Request(
            messages=messages,
            sampling=sampling,
            tools=tools,
            seed=_seed(play, sampling),
            sample_index=play.sample_index,
            deadline_seconds=play.deadline_seconds,
        ),
        key=key,
        ledger=play.purse_of(node.id),
        attributes={names.NODE: node.id},
        telling=None if play.listener is None else Telling(partial(_tell, play.listener, node.id)),
    )
    play.spent.add(reply)
    if play.listener is not None:
        play.listener(Cost(play.ledger.spent, play.spent.list_nano))
    return reply


def _tell(listener: Listener, node_id: str, text: str, anew: bool) -> None:
    listener(Token(node_id, text, anew))


def _seed(play: Play, sampling: Sampling) -> int | None:
    """Greedy decoding draws nothing, so a seed would only split the cache."""
    return None if sampling.temperature == 0 else play.seed
