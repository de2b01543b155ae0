"""Every provider LiteLLM reaches (`openai/...`, `anthropic/...`, `ollama/...`) behind the `Model` protocol.

The only module that imports litellm (2 s, 175 MiB), which is first told not to download its price list. Its own
retries are set to 0, because a retry is a new call with a reservation of its own; its logging and callbacks are off.
What LiteLLM makes up is not passed on: when the server reports no usage it counts tokens itself, and that count is
dropped, so that the ledger keeps the reservation. Prices come from the price list inside the installed package; a local
provider's price of zero is not believed, since the machine it runs on costs money.

Log-probabilities are kept only where they are of the distribution sampled from: providers report the model's own, which
is that distribution at temperature 1 without truncation; a server that says otherwise is opened with
`processed_logprobs=True` (vLLM: `--logprobs-mode processed_logprobs`).
"""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import Any, cast
from weakref import WeakSet

from orchestra import plugins
from orchestra.errors import InputError, MissingExtra, ModelError
from orchestra.ledger import Price
from orchestra.models.litellm_errors import model_error
from orchestra.models.litellm_prices import listed_price
from orchestra.models.litellm_wire import BROKEN_OFF, REASONS, Reply, reported_usage, wire_messages, wire_tools
from orchestra.models.protocol import Capabilities, Completion, Delta, Request, Turn
from orchestra.models.vllm_names import host_and_port, is_loopback

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read at import: otherwise it downloads the list
try:
    # By name, because a type checker that follows litellm reads half a million lines and learns `Any`.
    litellm: Any = import_module("litellm")
except ModuleNotFoundError as missing:
    if missing.name != "litellm":
        raise
    raise MissingExtra("providers", "reaching a provider through LiteLLM") from missing

with warnings.catch_warnings():
    # Its records build themselves at the first call, and pydantic warns about their annotations: nobody's affair here.
    warnings.simplefilter("ignore")
    litellm.ModelResponse().model_dump()
    litellm.ModelResponse(stream=True).model_dump()
    litellm.ModelResponseStream().model_dump()

litellm.telemetry = False
litellm.suppress_debug_info = True
litellm.disable_streaming_logging = True
litellm.disable_aiohttp_transport = True  # its sessions outlive the event loop and warn; httpx's are closed below
litellm.num_retries = 0
litellm.REPEATED_STREAMING_CHUNK_LIMIT = (
    sys.maxsize
)  # it calls a reply that repeats itself a failure: paid for, and lost
litellm.callbacks = []

LOCAL_PROVIDERS = frozenset(
    {"ollama", "ollama_chat", "hosted_vllm", "vllm", "lm_studio", "llamafile", "docker_model_runner", "oobabooga"}
)
"""Providers that are servers of one's own: no external money, priced by the machine."""

TOP_K_PROVIDERS = frozenset(
    {"anthropic", "bedrock", "gemini", "vertex_ai", "ollama", "ollama_chat", "hosted_vllm", "openrouter", "together_ai"}
)
"""Providers that take `top_k`, which is no parameter of OpenAI's."""

OTEL_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""OpenTelemetry's `gen_ai.provider.name` where it differs from LiteLLM's."""

# LiteLLM keeps one pool of connections for all models; the last one to close empties it.
_open_models: "WeakSet[LitellmModel]" = WeakSet()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    api_base: str | None
    api_key: str | None
    timeout_seconds: float
    processed_logprobs: bool
    parameters: frozenset[str]


def open_litellm(
    name: str,
    *,
    api_base: str | None = None,
    api_key: str | None = None,
    price: Price | None = None,
    machine_usd_per_hour: Decimal | str | int | None = None,
    input_tokens_per_second: float | None = None,
    output_tokens_per_second: float | None = None,
    external: bool | None = None,
    tools: bool | None = None,
    processed_logprobs: bool = False,
    timeout_seconds: float = 600.0,
    deterministic: bool = False,
) -> "LitellmModel":
    """The model LiteLLM knows as `name`, such as `openai/gpt-4.1-mini`. Nothing is sent.

    Args:
        name: provider, slash, model.
        api_base: address of the server; `None` takes the provider's.
        api_key: `None` lets LiteLLM read the provider's environment variable.
        price: `None` takes LiteLLM's list, or for a server of one's own the machine's price and the two speeds.
        machine_usd_per_hour: what the machine behind a local server costs; used with both speeds.
        input_tokens_per_second: measured prompt tokens per second of a local server.
        output_tokens_per_second: measured reply tokens per second of a local server.
        external: whether calls cost money outside this machine; `None` says no for local providers and loopback.
        tools: whether it calls functions natively; `None` asks LiteLLM's list, where unknown means no.
        processed_logprobs: whether the server reports log-probabilities after temperature and truncation.
        timeout_seconds: longest silence of the server; a request's deadline may be shorter.
        deterministic: changes nothing here; a provider's numerics are its own.

    Raises:
        InputError: when LiteLLM knows no such provider.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each provider's module is imported when first asked for, and warns too
        provider = _provider(name)
        parameters = frozenset(litellm.get_supported_openai_params(model=name) or ())
    facts = _facts(name, provider)
    own = provider in LOCAL_PROVIDERS or (api_base is not None and is_loopback(api_base))
    if price is None and own:
        speeds = (input_tokens_per_second, output_tokens_per_second)
        if machine_usd_per_hour is not None and speeds[0] is not None and speeds[1] is not None:
            price = Price.from_speed(machine_usd_per_hour, speeds[0], speeds[1], source="machine price and speed given")
    elif price is None:
        price = listed_price(facts)
    context = facts.get("max_input_tokens")
    capabilities = Capabilities(
        logprobs=processed_logprobs and "logprobs" in parameters,
        tools=bool(facts.get("supports_function_calling")) and "tools" in parameters if tools is None else tools,
        seed=False,  # OpenAI calls its own "best effort"
        stream=True,
        context_tokens=context if isinstance(context, int) else None,
    )
    return LitellmModel(
        name,
        provider=OTEL_PROVIDERS.get(provider, provider),
        capabilities=capabilities,
        price=price,
        external=not own if external is None else external,
        settings=_Settings(
            api_base=api_base,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            processed_logprobs=processed_logprobs,
            parameters=parameters | ({"top_k"} if provider in TOP_K_PROVIDERS else set()),
        ),
    )


class LitellmModel:
    """A provider's model; made by `open_litellm`."""

    def __init__(
        self,
        name: str,
        *,
        provider: str,
        capabilities: Capabilities,
        price: Price | None,
        external: bool,
        settings: _Settings,
    ) -> None:
        self._name, self._provider, self._capabilities = name, provider, capabilities
        self._price, self._external, self._settings = price, external, settings
        base = hashlib.sha256((settings.api_base or "").encode()).hexdigest()[:8]
        self._fingerprint = f"litellm:{name}:{base}"
        _open_models.add(self)

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self._name

    @property
    def provider(self) -> str:
        """OpenTelemetry's `gen_ai.provider.name`."""
        return self._provider

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    @property
    def fingerprint(self) -> str:
        """Name and address: what a provider changes behind a name cannot be seen from here."""
        return self._fingerprint

    @property
    def price(self) -> Price | None:
        """Per token; `None` means neither LiteLLM's list nor the settings know it."""
        return self._price

    @property
    def address(self) -> tuple[str, int] | None:
        """Of `api_base`; `None` where LiteLLM knows the provider's address and does not say it."""
        return host_and_port(self._settings.api_base) if self._settings.api_base else None

    @property
    def external(self) -> bool:
        """Whether a call costs money outside this machine."""
        return self._external

    def prompt_tokens_bound(self, request: Request) -> int:
        """UTF-8 bytes of all that is sent, as no tokenizer makes more tokens than bytes, plus a template's overhead."""
        # 128 covers the system prompts templates add by themselves, 700 the instructions providers put before tools.
        bound = 128 + (700 if request.tools else 0)
        for message in wire_messages(request):
            bound += 16 + len(json.dumps(message, ensure_ascii=False).encode())
        for tool in wire_tools(request):
            bound += 32 + 2 * len(json.dumps(tool, ensure_ascii=False).encode())
        return bound

    def prompt_key(self, request: Request) -> str:
        """The messages as they are sent."""
        return json.dumps([wire_messages(request), wire_tools(request)], ensure_ascii=False)

    async def stream(self, request: Request) -> AsyncGenerator[Delta | Completion, None]:
        """The reply as it arrives, then its completion.

        Raises:
            orchestra.errors.ModelError: when the provider refuses or fails, or a setting cannot be sent to it.
        """
        arguments = self._arguments(request)
        began = time.perf_counter()
        ends = (
            None if request.deadline_seconds is None else asyncio.get_running_loop().time() + request.deadline_seconds
        )
        reply = Reply()
        answer: Any = None
        try:
            async with asyncio.timeout_at(ends):
                answer = await litellm.acompletion(**arguments)
            chunks: AsyncIterator[Any] = aiter(answer)
            while True:
                async with asyncio.timeout_at(ends):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                text = reply.add(chunk)
                if text:
                    reply.first_seconds = reply.first_seconds or time.perf_counter() - began
                    yield Delta(text=text)
            reply.usage = reported_usage(answer)
            if answer.received_finish_reason is None:  # LiteLLM then says "stop" of its own accord
                reply.finish_reason = None
        except TimeoutError as cause:
            raise ModelError(
                f"{self._name} did not finish within {request.deadline_seconds} s; give the call a longer deadline"
            ) from cause
        except Exception as cause:  # the boundary to a provider: whatever it raises is the model's failure
            raise model_error(self._name, cause, begun=answer is not None) from cause
        finally:
            if answer is not None:
                with contextlib.suppress(Exception):
                    await answer.aclose()
        yield self._completion(reply, request, time.perf_counter() - began)

    meeting = None

    async def meet(self, *, deadline_seconds: float | None = None, turn: Turn | None = None) -> None:
        """Nothing is left to learn."""

    async def close(self) -> None:
        """Close LiteLLM's connections once no other model of it is open."""
        _open_models.discard(self)
        if not _open_models:
            await litellm.close_litellm_async_clients()
            litellm.in_memory_llm_clients_cache.flush_cache()

    def _arguments(self, request: Request) -> dict[str, Any]:
        settings, sampling = self._settings, request.sampling
        wanted: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        if sampling.top_p != 1.0:
            wanted["top_p"] = sampling.top_p
        if sampling.top_k:
            wanted["top_k"] = sampling.top_k
        if sampling.stop:
            wanted["stop"] = list(sampling.stop)
        if request.tools:
            wanted["tools"] = wire_tools(request)
            wanted["_skip_mcp_handler"] = True  # else a request with tools imports mcp, which is not among its needs
        if sampling.temperature == 0 and "temperature" not in settings.parameters:
            del wanted["temperature"]  # greedy is our default, not a wish
        refused = sorted(set(wanted) - settings.parameters - {"max_tokens", "_skip_mcp_handler"})
        if refused:
            raise ModelError(f"{self._name} does not take {', '.join(refused)}; leave it at its default for this model")
        if request.seed is not None and "seed" in settings.parameters:
            drawn = hashlib.sha256(f"{request.seed}/{request.sample_index}".encode()).digest()
            wanted["seed"] = int.from_bytes(drawn[:4], "big") >> 1
        if "logprobs" in settings.parameters and self._true_logprobs(request):
            wanted["logprobs"] = True
        return {
            "model": self._name,
            "messages": wire_messages(request),
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_retries": 0,
            "num_retries": 0,
            "timeout": min(settings.timeout_seconds, request.deadline_seconds or settings.timeout_seconds),
            "api_base": settings.api_base,
            "api_key": settings.api_key,
            **wanted,
        }

    def _true_logprobs(self, request: Request) -> bool:
        sampling = request.sampling
        untouched = sampling.temperature == 1.0 and sampling.top_p == 1.0 and sampling.top_k == 0
        return self._settings.processed_logprobs or untouched

    def _completion(self, reply: Reply, request: Request, latency_seconds: float) -> Completion:
        if reply.finish_reason is None or reply.finish_reason.lower() in BROKEN_OFF:
            why = "without saying why" if reply.finish_reason is None else f"as {reply.finish_reason!r}"
            raise ModelError(f"{self._name} ended its reply {why}; try again", retryable=True)
        calls = reply.tool_calls()
        return Completion(
            text="".join(reply.text),
            finish_reason="tool_calls" if calls else REASONS.get(reply.finish_reason, "stop"),
            model=reply.model or self._name,
            usage=reply.usage,
            tool_calls=calls,
            logprobs=tuple(reply.logprobs) if reply.logprobs and self._true_logprobs(request) else None,
            adapter=request.adapter,
            response_id=reply.response_id,
            latency_seconds=latency_seconds,
            first_token_seconds=reply.first_seconds,
        )


def _provider(name: str) -> str:
    try:
        return str(litellm.get_llm_provider(name)[1])
    except Exception as cause:  # litellm says "unknown provider" with its whole family of errors
        prefix = name.partition("/")[0]
        known = [str(getattr(p, "value", p)) for p in litellm.provider_list]
        raise InputError(
            f"no model provider named {prefix!r} (in {name!r}); {plugins.closest(prefix, known)}"
        ) from cause


def _facts(name: str, provider: str) -> dict[str, Any]:
    """LiteLLM's own entry, by its data alone: its look-up function asks some servers over the network."""
    for key in (name, name.partition("/")[2]):
        entry = litellm.model_cost.get(key)
        if isinstance(entry, dict) and entry.get("litellm_provider") == provider:
            return cast("dict[str, Any]", entry)
    return {}
