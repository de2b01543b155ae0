"""Whether a server's count of tokens can be true.

A count is what the provider will bill, so one that is possible is believed, even when it is above what was reserved:
that is an overrun, booked in full. One that is impossible measures nothing. It is dropped, as if the server had not
counted, and the call stays booked at its reservation; what was wrong is written on the call's span. Impossible is:

- a negative number, or more tokens than the model's context (10 million where that is not known);
- fewer tokens than there must be: none for a prompt or a reply that is not empty, or fewer than one for every 128 bytes
  of it, as no tokenizer in use has a longer token;
- fewer than the token ids that came with the reply. Those are the true count, and it is taken.

A smaller untruth cannot be told from a better tokenizer, and is believed.
"""

from orchestra.models.protocol import Completion, Model, Request, Usage

MOST_TOKENS = 10_000_000
"""No model on sale reads more at once."""
LONGEST_TOKEN_BYTES = 128
"""Of the tokenizers in use: 128 blanks are one token of OpenAI's."""


def believed(model: Model, request: Request, completion: Completion) -> tuple[Usage | None, str | None]:
    """The usage to book, and what was wrong with the one reported, if anything was.

    Args:
        model: that answered.
        request: it was asked.
        completion: as it came.
    """
    said = completion.usage
    if said is None:
        return None, None
    most = model.capabilities.context_tokens or MOST_TOKENS
    counts = f"{said.input_tokens} prompt and {said.output_tokens} reply tokens"
    if min(said.input_tokens, said.output_tokens, said.cached_input_tokens) < 0:
        return None, f"the server counted {counts}, which cannot be"
    if max(said.input_tokens, said.output_tokens) > most:
        return None, f"the server counted {counts}, where at most {most} are possible"
    if completion.token_ids is not None:
        read, made = len(completion.prompt_token_ids or ()), len(completion.token_ids)
        if said.input_tokens >= read and said.output_tokens >= made:
            return said, None
        true = Usage(input_tokens=max(said.input_tokens, read), output_tokens=max(said.output_tokens, made))
        return true, f"the server counted {counts}, where there are {read} and {made} token ids"
    least = _least_tokens(*(message.content for message in request.messages))
    if said.input_tokens < least:
        return None, f"the server counted {counts}, where the prompt has at least {least}"
    least = _least_tokens(completion.text, *(f"{call.name}{call.arguments}" for call in completion.tool_calls))
    if said.output_tokens < least:
        return None, f"the server counted {counts}, where the reply has at least {least}"
    return said, None


def _least_tokens(*texts: str) -> int:
    return -(-sum(len(text.encode()) for text in texts) // LONGEST_TOKEN_BYTES)
