"""Whether the log-probabilities of an answer are of the distribution its tokens were drawn from.

Servers report them before temperature, truncation and penalties unless they were told otherwise (vLLM: `--logprobs-mode
processed_logprobs`), and say nowhere which. An importance ratio over the wrong ones is wrong without any sign. So they
are kept only of a server that is known to report them afterwards, or where the request itself says that nothing is done
to the distribution; vLLM takes what a request leaves out from the model's `generation_config.json`, which may not be
neutral.
"""

from collections.abc import Mapping
from typing import Any

_SAID: Mapping[str, tuple[object, ...]] = {
    "temperature": (0, 1),
    "repetition_penalty": (1,),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
}
"""What a model's own configuration may set, and the values that change nothing."""
_OF_DRAWING = frozenset({"top_p", "top_k", "min_p"})
"""Of those, what means nothing where the most probable token is taken."""
_UNSAID: Mapping[str, tuple[object, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "min_tokens": (0,),
    "best_of": (1,),
    "use_beam_search": (False,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
}
"""What changes nothing where it is left out, and the values that change nothing either."""
# fmt: off
_HARMLESS = frozenset({
    "model", "messages", "prompt", "tools", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
    "stop", "stop_token_ids", "ignore_eos", "include_stop_str_in_output", "seed", "user", "logprobs", "top_logprobs",
    "prompt_logprobs", "return_token_ids", "parallel_tool_calls", "return_tokens_as_token_ids", "skip_special_tokens",
    "spaces_between_special_tokens", "add_special_tokens", "chat_template", "chat_template_kwargs",
    "add_generation_prompt", "continue_final_message", "documents", "include_reasoning", "metadata", "store",
    "service_tier", "priority", "request_id", "cache_salt", "truncate_prompt_tokens", "safety_identifier",
    "prompt_cache_key",
})
"""What has nothing to do with the distribution of the next token."""
# fmt: on


def doubt(body: Mapping[str, Any]) -> str | None:
    """What a request says or leaves out that may move the distribution; `None` means that nothing does.

    Args:
        body: of a request to `/v1/chat/completions` or `/v1/completions`.

    >>> doubt({"model": "m", "temperature": 0.7})
    'temperature is 0.7'
    >>> doubt({"model": "m", "temperature": 0, "repetition_penalty": 1, "prompt": "2 + 2 ="})
    """
    greedy = body.get("temperature") == 0
    for name, neutral in _SAID.items():
        if greedy and name in _OF_DRAWING:
            continue
        if body.get(name) is None:
            return f"{name} is left out"
        if body[name] not in neutral:
            return f"{name} is {body[name]!r}"
    for name, value in body.items():
        if value is None or name in _HARMLESS or name in _SAID:
            continue
        if value not in _UNSAID.get(name, ()):
            return f"{name} is given"
    if any(_is_strict(tool) for tool in body.get("tools") or ()):
        return "a tool is strict"
    return None


def _is_strict(tool: object) -> bool:
    """Whether its calls are drawn by a grammar."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return isinstance(function, Mapping) and bool(function.get("strict"))
