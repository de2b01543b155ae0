"""What the span of a model call says about what was asked and what was answered."""

from collections.abc import Mapping

from orchestra.errors import ModelError
from orchestra.execution.asking import Reply
from orchestra.models.protocol import Model, Request
from orchestra.traces import names
from orchestra.traces.messages import input_messages, output_messages
from orchestra.traces.records import Attribute
from orchestra.traces.spans import Span

IN_PROCESS = frozenset({"orchestra.local", "scripted"})
"""Providers whose models run in this process; the convention calls every other call a client's, on this machine too."""


def asked(model: Model, request: Request, attributes: Mapping[str, str | int]) -> dict[str, Attribute]:
    """Attributes a chat span begins with."""
    sampling = request.sampling
    begun: dict[str, Attribute] = {
        names.OPERATION_NAME: "chat",
        names.PROVIDER_NAME: model.provider,
        names.REQUEST_MODEL: model.name,
        names.REQUEST_MAX_TOKENS: sampling.max_tokens,
        names.REQUEST_TEMPERATURE: sampling.temperature,
        names.REQUEST_TOP_P: sampling.top_p,
        names.SAMPLE_INDEX: request.sample_index,
        **attributes,
    }
    if model.address is not None:
        begun[names.SERVER_ADDRESS], begun[names.SERVER_PORT] = model.address
    if sampling.top_k:
        begun[names.REQUEST_TOP_K] = sampling.top_k
    if request.seed is not None:
        begun[names.REQUEST_SEED] = request.seed
    if sampling.stop:
        begun[names.REQUEST_STOP_SEQUENCES] = sampling.stop
    if model.capabilities.stream:
        begun[names.REQUEST_STREAM] = True
    return begun


def show_request(span: Span, request: Request) -> None:
    """Write what was asked on its chat span: the messages, and the tools that were offered."""
    span.content(names.INPUT_MESSAGES, input_messages(request.messages))
    if request.tools:
        offered = [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
        ]
        span.content(names.TOOL_DEFINITIONS, offered)


def answered(span: Span, reply: Reply) -> None:
    """Write a reply and what it cost on its chat span."""
    completion = reply.completion
    span.set(names.RESPONSE_MODEL, completion.model)
    span.set(names.RESPONSE_FINISH_REASONS, [completion.finish_reason])
    span.set(names.PAID_NANO, reply.paid_nano)
    span.set(names.LIST_NANO, reply.list_nano)
    span.set(names.CACHED, reply.source != "model")
    for name, value in (
        (names.RESPONSE_ID, completion.response_id),
        (names.FIRST_TOKEN_SECONDS, completion.first_token_seconds),
        (names.ADAPTER, completion.adapter),
    ):
        if value is not None:
            span.set(name, value)
    if completion.usage is not None:
        span.set(names.INPUT_TOKENS, completion.usage.input_tokens)
        span.set(names.OUTPUT_TOKENS, completion.usage.output_tokens)
        span.set(names.CACHED_INPUT_TOKENS, completion.usage.cached_input_tokens)
    said = output_messages(completion.text, completion.finish_reason, completion.tool_calls)
    span.content(names.OUTPUT_MESSAGES, said)
    if completion.token_ids is not None:
        ids = {"prompt": completion.prompt_token_ids, "reply": completion.token_ids, "logprobs": completion.logprobs}
        span.content(names.TOKEN_IDS, ids)


def failed(error: BaseException, booked_nano: int) -> dict[str, object]:
    """One attempt that failed, as the chat span tells of it: with what stays booked for it."""
    told: dict[str, object] = {"error": str(error) or type(error).__name__, "booked_nano": booked_nano}
    if isinstance(error, ModelError):
        told |= {"served": error.served, "retry_after_seconds": error.retry_after_seconds}
    return told
