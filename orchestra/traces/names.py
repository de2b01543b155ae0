"""The one table of span and attribute names.

`gen_ai.*` and `error.*` are OpenTelemetry's GenAI conventions (repository `semantic-conventions-genai`); what that
standard lacks (money, token ids, log-probabilities, seat, node, ledger) is under `orchestra.*`. Nothing else spells
such a name. A change of names is a change of `VERSION`, which every span's resource carries.
"""

from typing import Final

VERSION: Final = "genai-0.1.0+orchestra-3"
"""Of the conventions followed, and of our additions."""

# Span names. The part after the blank is the team's, node's, model's or tool's name.
PLAY: Final = "play"
INVOKE_WORKFLOW: Final = "invoke_workflow"
INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
ENVIRONMENT_STEP: Final = "environment step"
ATTEMPT: Final = "attempt"
"""Root of what a resumed run does anew."""

# OpenTelemetry GenAI attributes.
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
AGENT_VERSION: Final = "gen_ai.agent.version"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
"""Of a workflow span, whose team is its `gen_ai.agent.name` too: drafts of the convention differ in which it is."""
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_TOKEN_SECONDS: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"

# Ours.
RUN_ID: Final = "orchestra.run.id"
COMMAND: Final = "orchestra.command"
EPISODE_ID: Final = "orchestra.episode.id"
TASK_ID: Final = "orchestra.task.id"
ENVIRONMENT: Final = "orchestra.environment"
TEAM_HASH: Final = "orchestra.team.hash"
"""Content hash of the agent graph."""
TEAM: Final = "orchestra.team"
"""Content: the agent graph as its file would hold it."""
SEAT: Final = "orchestra.seat"
"""Which of the teams that play at once, from 0."""
NODE: Final = "orchestra.node"
NODE_KIND: Final = "orchestra.node.kind"
ROUND: Final = "orchestra.round"
STEP: Final = "orchestra.environment.step"
STATE_KEY: Final = "orchestra.environment.state_key"
TASK_INPUT: Final = "orchestra.task.input"
"""Content: the task as the team heard it."""
OUTPUT: Final = "orchestra.output"
"""Content: what was said in the end, by the team or by a node."""
TOKEN_IDS: Final = "orchestra.token_ids"
"""Content: `{"prompt": [int], "reply": [int], "logprobs": [float]}`, each absent or null where not captured."""
TOKEN_IDS_MISSING: Final = "orchestra.token_ids.missing"
"""Why ids that a server sent could not be kept as the turn's."""
CALL: Final = "orchestra.call"
"""Of a span of another application: the run and the span of the call a proxy kept for it, `<run>/<span>`."""
PAID_NANO: Final = "orchestra.paid_nano"
"""Nano-USD the ledger paid; 0 for a cache hit."""
LIST_NANO: Final = "orchestra.list_nano"
"""Nano-USD it costs uncached."""
CACHED: Final = "orchestra.cached"
SAMPLE_INDEX: Final = "orchestra.sample.index"
ADAPTER: Final = "orchestra.adapter"
"""Name and version of the adapter over the base weights."""
FAILED_ATTEMPTS: Final = "orchestra.failed_attempts"
"""Content: of a model call, `[{"error", "booked_nano", "served", "retry_after_seconds"}]` of every attempt that failed,
in order; what was booked for them is owed besides `PAID_NANO`, which is for the answer alone."""
USAGE_DOUBT: Final = "orchestra.usage_doubt"
"""What was wrong with the server's count of tokens, where it cannot be true."""
RESERVATION: Final = "orchestra.ledger.reservation"
"""Of a model call: what the journal and the ledger keep it under (a further try with `#2`, `#3` behind it); the same on
every attempt at a run."""
REDACTED: Final = "orchestra.redacted"
"""True where the redactor changed something; token ids and log-probabilities are gone then."""
NAMES_VERSION: Final = "orchestra.names.version"

CUT: Final = "orchestra.export.cut"
"""On an exported span: `key=digest` of every content that was too long for it; the store holds the whole."""

IDENTIFIERS: Final = frozenset({RUN_ID, EPISODE_ID, TASK_ID, TEAM_HASH, STATE_KEY, CALL, RESERVATION})
"""What records are found and told apart by; no redactor is shown them."""
OURS: Final = "orchestra."
"""Prefix of every attribute a foreign application does not set."""

ADDED: Final = frozenset({TOKEN_IDS, TOKEN_IDS_MISSING, CALL, REDACTED})
"""Those that are added to a foreign application's spans when they are imported."""

INHERITED: Final = (EPISODE_ID, SEAT, NODE, ROUND, STEP, STATE_KEY)
"""Attributes a span takes from its parent, so that a span whose parent never ended still knows where it belongs."""

DEMONSTRATION: Final = "orchestra.demonstration"
"""Provider of turns that a program wrote down for imitation: nobody sampled them."""

# Names of facts.
FACT_START: Final = "start"
"""A run began, or (value with `episode_id`) an episode did."""
FACT_SCORE: Final = "score"
FACT_REWARD: Final = "reward"
"""Value: a number; about a chat span it is a turn's, about a workflow span its seat's. Or `{"episode_id", "seat",
"reward"}`, a seat's, and with `"step"` what the seat earned by its move at that step."""
FACT_END: Final = "end"
"""An attempt at a run ended; value: `{"state", "error"}`, with a state of `END_STATES`. A killed one leaves none."""
END_STATES: Final = ("finished", "failed", "cancelled", "paused", "ran-out")
FACT_QUESTION: Final = "question"
"""A person was asked; value: `{"key", "question", "node", "choices", "episode_id", "task_id"}`."""
FACT_ERROR: Final = "error"
"""Value: text; something found wrong after the spans had ended."""
