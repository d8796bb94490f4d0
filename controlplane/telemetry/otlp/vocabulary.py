"""One vocabulary for what applications write: GenAI semantic conventions of three generations, OpenInference, OpenLLMetry.

Generation A wrote ``gen_ai.system`` and ``gen_ai.usage.prompt_tokens``, B (1.37 to 1.41) ``gen_ai.provider.name`` and
``gen_ai.usage.input_tokens``, C (the conventions' own repository) further names for caches and reasoning. Several names may say
the same; the one of lowest rank counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

(
    TENANT, ROUTE, RELEASE, DECISION, REFUSED, OPERATION, OI_KIND, TRACELOOP_KIND, REQUEST_TYPE, ENTITY, PROVIDER, MODEL,
    SESSION, USER, AGENT, TOOL, INPUT, OUTPUT, CACHED, REASONING, COST_NUSD, COST_USD, CURRENCY, TTFT_S, ATTEMPT,
) = range(1, 26)  # fmt: skip

_SLOTS: dict[int, tuple[str, ...]] = {
    TENANT: ("tidegate.tenant",),
    ROUTE: ("tidegate.route",),
    RELEASE: ("tidegate.release",),
    DECISION: ("tidegate.decision",),
    REFUSED: ("tidegate.refused",),
    ATTEMPT: ("tidegate.attempt",),
    OPERATION: ("gen_ai.operation.name",),
    OI_KIND: ("openinference.span.kind",),
    TRACELOOP_KIND: ("traceloop.span.kind",),
    REQUEST_TYPE: ("llm.request.type",),
    ENTITY: ("traceloop.entity.name",),
    PROVIDER: ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"),
    MODEL: (
        "gen_ai.response.model",
        "gen_ai.request.model",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "llm.response.model",
        "llm.request.model",
        "ai.model.id",
    ),
    SESSION: (
        "session.id",
        "gen_ai.conversation.id",
        "traceloop.association.properties.session_id",
        "langfuse.session.id",
        "mlflow.trace.session",
    ),
    USER: ("user.id", "enduser.id", "traceloop.association.properties.user_id", "langfuse.user.id"),
    AGENT: ("gen_ai.agent.name", "agent.name", "gen_ai.workflow.name", "graph.node.id"),
    TOOL: ("gen_ai.tool.name", "tool.name"),
    INPUT: (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    OUTPUT: (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    CACHED: (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.usage.cache_read_input_tokens",
    ),
    REASONING: (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
        "llm.usage.reasoning_tokens",
    ),
    COST_NUSD: ("tidegate.cost_nusd",),
    COST_USD: ("gen_ai.usage.cost.amount", "gen_ai.usage.cost", "llm.cost.total"),
    CURRENCY: ("gen_ai.usage.cost.currency",),
    TTFT_S: ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
}
NUMBERS = frozenset({INPUT, OUTPUT, CACHED, REASONING, COST_NUSD, COST_USD, TTFT_S})  # the others are texts
# What columns are made of; spans that say the same of these have the same in them.
WORDS = frozenset(
    {
        OPERATION, OI_KIND, TRACELOOP_KIND, REQUEST_TYPE, ENTITY, PROVIDER, MODEL, ROUTE, RELEASE, DECISION, REFUSED, AGENT, TOOL,
    }
)  # fmt: skip
NAMES: dict[str, tuple[int, int]] = {
    name: (slot, rank) for slot, names in _SLOTS.items() for rank, name in enumerate(names)
}

# What an operation is called that was written in another vocabulary.
_OPERATIONS = {"completion": "text_completion", "embedding": "embeddings", "responses": "chat", "completions": "chat"}
_OI_KINDS = {
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
    "RERANKER": "rerank",
    "CHAIN": "invoke_workflow",
    "GUARDRAIL": "guardrail",
    "EVALUATOR": "evaluation",
}
_TRACELOOP_KINDS = {
    "workflow": "invoke_workflow",
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "task": "task",
}
_REQUEST_TYPES = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings", "rerank": "rerank"}
INFERENCES = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
# Spans of these carry the sums of spans below them, if anything.
AGGREGATES = frozenset(
    {
        "invoke_agent", "create_agent", "invoke_workflow", "execute_tool", "plan", "task", "retrieval", "rerank", "guardrail",
        "evaluation", "create_memory_store", "search_memory", "create_memory", "update_memory", "upsert_memory",
        "delete_memory", "delete_memory_store",
    }
)  # fmt: skip
_CLIENT = 3

_PROVIDERS = {
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gen_ai",
    "mistralai": "mistral_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
}


def provider_of(said: str) -> str:
    """Return the well-known name of a provider."""
    name = said.strip().lower()
    return _PROVIDERS.get(name, name)


def operation_of(said: Mapping[int, Any]) -> str:
    """Return the operation of a span from what it says of itself by slot; empty for one that is not of generative AI."""
    named = said.get(OPERATION)
    if named:
        name = str(named).strip().lower()
        return _OPERATIONS.get(name, name)
    kind = said.get(OI_KIND)
    if kind:
        return _OI_KINDS.get(str(kind).upper(), "")
    kind = said.get(TRACELOOP_KIND)
    if kind:
        return _TRACELOOP_KINDS.get(str(kind).lower(), "")
    kind = said.get(REQUEST_TYPE)
    if kind:
        return _REQUEST_TYPES.get(str(kind).lower(), "")
    return "chat" if INPUT in said or OUTPUT in said else ""


def counts_usage(operation: str, kind: int) -> bool:
    """Return whether the tokens of a span are its own: those of agents, tools and workflows are sums over spans below.

    An operation that the conventions do not know counts when the span says that it calls another service.
    """
    return operation in INFERENCES or (bool(operation) and operation not in AGGREGATES and kind == _CLIENT)


_MESSAGES = frozenset(
    {
        "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions",
        "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.retrieval.query.text", "gen_ai.retrieval.documents",
        "gen_ai.prompt", "gen_ai.completion", "gen_ai.content.prompt", "gen_ai.content.completion", "gen_ai.event.content",
        "input.value", "output.value", "llm.prompts", "llm.completions", "llm.input_messages", "llm.output_messages",
        "llm.prompt_template.variables", "llm.function_call", "tool.parameters", "traceloop.entity.input",
        "traceloop.entity.output", "ai.prompt", "ai.prompt.messages", "ai.response.text", "ai.response.object",
        "ai.response.toolCalls", "ai.toolCall.args", "ai.toolCall.result", "ai.value", "ai.values", "mlflow.spanInputs",
        "mlflow.spanOutputs", "langfuse.observation.input", "langfuse.observation.output", "langfuse.trace.input",
        "langfuse.trace.output", "embedding.text",
    }
)  # fmt: skip
_NUMBERED = re.compile(
    r"(?:gen_ai\.(?:prompt|completion)|llm\.(?:input_messages|output_messages|prompts|tools|request\.functions|completions)"
    r"|retrieval\.documents|reranker\.(?:input|output)_documents|embedding\.embeddings)\.\d+(?:\.|$)"
)
_EVENT = re.compile(r"gen_ai\.(?:\w+\.message|choice|content\.\w+|client\.inference\.operation\.details|user\.message)")


def is_message(name: str) -> bool:
    """Return whether an attribute holds what somebody said: prompts, replies, what tools were given and gave."""
    return name in _MESSAGES or _NUMBERED.match(name) is not None


def is_message_event(name: str) -> bool:
    """Return whether the attributes of an event hold what somebody said."""
    return _EVENT.fullmatch(name) is not None
