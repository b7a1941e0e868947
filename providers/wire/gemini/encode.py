"""The unified request -> a body for Google. The model and the choice to stream go into the path, not in here.

The user and the metadata of a request are in the gateway's own books, and Google has no place for them.
"""

from __future__ import annotations

from providers.unified import Json, Request, Tool, ToolChoice
from providers.wire.gemini import history, settings
from providers.wire.gemini.names import NAME, dumps, objects
from providers.wire.gemini.refusal import Refusal

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_PLAIN_TIERS = frozenset({"", "auto", "default", "standard", "standard_only"})
_TIERS = frozenset({"flex", "priority"})
_MERGED = frozenset({"tools", "toolConfig", "generationConfig"})


def encode_request(request: Request, *, drop_unsupported: bool = False) -> bytes:
    """The body. Raises Unsupported(param) for what this wire cannot say, unless `drop_unsupported`."""
    refusal = Refusal(drop=drop_unsupported, own=request.wire in ("", NAME))
    extra = request.extra if refusal.own else {}
    for name in () if refusal.own else request.extra:
        refusal.cannot(name, "this field is not known to this provider")
    if request.parallel_tool_calls is False:
        refusal.cannot("parallel_tool_calls", "this provider cannot be kept to one call at a time")
    system, contents = history.contents(request, refusal)
    body: Json = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    config = settings.generation_config(request, refusal) | _merged(extra, "generationConfig")
    if request.reasoning is not None and "thinkingConfig" in extra.get("generationConfig", {}):
        config["thinkingConfig"] = settings.thinking(request, refusal) | extra["generationConfig"]["thinkingConfig"]
    if config:
        body["generationConfig"] = config
    _add_tools(body, request, extra)
    _add_tier(body, request, refusal)
    body |= {name: value for name, value in extra.items() if name not in _MERGED}
    return dumps(body)


def _merged(extra: Json, name: str) -> Json:
    value = extra.get(name)
    return value if isinstance(value, dict) else {}


def _add_tools(body: Json, request: Request, extra: Json) -> None:
    options: dict[str, Json] = {}
    others: list[Json] = []
    for entry in objects(extra.get("tools")):
        declared = objects(entry.get("functionDeclarations"))
        options |= {str(item.get("name")): item for item in declared}
        others += [] if declared else [entry]
    functions = [_function(tool) | options.get(tool.name, {}) for tool in request.tools]
    tools = ([{"functionDeclarations": functions}] if functions else []) + others
    if tools:
        body["tools"] = tools
    config = _merged(extra, "toolConfig")
    calling = _calling(request.tool_choice, strict=any(tool.strict for tool in request.tools))
    if calling:
        config = {"functionCallingConfig": calling} | config
    if config:
        body["toolConfig"] = config


def _function(tool: Tool) -> Json:
    said: Json = {"name": tool.name}
    if tool.description:
        said["description"] = tool.description
    if tool.parameters:
        said["parametersJsonSchema"] = tool.parameters
    return said


def _calling(choice: ToolChoice | None, *, strict: bool) -> Json:
    """The mode. ANY checks calls against their schema by itself; where the model may choose, VALIDATED does so.

    https://ai.google.dev/gemini-api/docs/function-calling#function_calling_modes
    """
    if strict and (choice is None or choice.mode == "auto"):
        return {"mode": "VALIDATED"}
    if choice is None:
        return {}
    named = {"allowedFunctionNames": [choice.name]} if choice.mode == "named" else {}
    return {"mode": _MODES[choice.mode], **named}


def _add_tier(body: Json, request: Request, refusal: Refusal) -> None:
    tier = request.service_tier
    if tier in _TIERS or (refusal.own and tier not in _PLAIN_TIERS):
        body["serviceTier"] = tier
    elif tier not in _PLAIN_TIERS:
        refusal.cannot("service_tier", f"tier {tier!r} is not offered by this provider")
    elif tier and request.wire == NAME:
        body["serviceTier"] = tier
