"""The settings of a unified request -> `generationConfig`."""

from __future__ import annotations

from providers.unified import Json, OutputFormat, Request
from providers.wire.gemini import models
from providers.wire.gemini.refusal import Refusal

_SAME = {
    "max_output_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_LEVELS = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
# What Google's own OpenAI endpoint makes of an effort where the model wants a number of tokens.
# https://ai.google.dev/gemini-api/docs/openai#thinking
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_DYNAMIC = -1


def generation_config(request: Request, refusal: Refusal) -> Json:
    """Raises Unsupported for an effort that means nothing here."""
    config: Json = {}
    for ours, theirs in _SAME.items():
        value = getattr(request, ours)
        if value is not None:
            config[theirs] = value
    if request.stop:
        config["stopSequences"] = list(request.stop)
    if request.n != 1:
        config["candidateCount"] = request.n
    # The count of alternatives is refused without the switch; a bare False is the default.
    if request.logprobs or (request.logprobs is False and refusal.own):
        config["responseLogprobs"] = request.logprobs
    if request.top_logprobs is not None and (request.logprobs or refusal.own):
        config["logprobs"] = request.top_logprobs
    if request.output_format is not None:
        config |= _output_format(request.output_format)
    if request.reasoning is not None:
        config["thinkingConfig"] = thinking(request, refusal)
    return config


def thinking(request: Request, refusal: Refusal) -> Json:
    """How much to think. Whoever asks for it gets to see the thoughts, as on the wires that ask."""
    reasoning = request.reasoning
    if reasoning is None:
        return {}
    if not reasoning.enabled or reasoning.effort == "none":
        # Models that always think refuse this in words that say so.
        return {"thinkingBudget": 0}
    shown: Json = {"includeThoughts": not reasoning.hidden}
    if reasoning.budget_tokens is not None:
        return {"thinkingBudget": reasoning.budget_tokens, **shown}
    by_level = models.thinks_by_level(request.model)
    if not reasoning.effort:
        return shown if by_level else {"thinkingBudget": _DYNAMIC, **shown}
    level = _LEVELS.get(reasoning.effort)
    if level is None:
        refusal.cannot("reasoning_effort", f"effort {reasoning.effort!r} cannot be asked for here")
        return shown
    return {"thinkingLevel": level, **shown} if by_level else {"thinkingBudget": _BUDGETS[level], **shown}


def _output_format(wanted: OutputFormat) -> Json:
    """The name of a schema says nothing to the model, and a schema is always kept to strictly."""
    said: Json = {"responseMimeType": "application/json"}
    if wanted.type == "json_schema":
        schema = wanted.schema
        if wanted.description and "description" not in schema:
            schema = {**schema, "description": wanted.description}
        said["responseJsonSchema"] = schema
    return said
