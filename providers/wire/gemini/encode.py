"""The unified request -> a body for Google. The model and the choice to stream go into the path, not in here.

The user and the metadata of a request are in the gateway's own books, and Google has no place for them.
"""

from __future__ import annotations

import re

from providers.unified import Json, Request, Tool, ToolChoice
from providers.wire import tiers
from providers.wire.gemini import history, settings
from providers.wire.gemini.names import NAME, dumps
from providers.wire.gemini.refusal import Refusal

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_TIERS = frozenset({"flex", "priority"})
# Fields of `extra` that stand within another one, by their path.
_FUNCTION_OPTION = re.compile(r"tools\[\d+\]\.functionDeclarations\[\d+\]\..+")
_OTHER_TOOL = re.compile(r"tools\[(\d+)\]\.[^.]+")


def encode_request(request: Request, *, drop_unsupported: bool = False) -> bytes:
    """The body. Raises Unsupported(param) for what this wire cannot say, unless `drop_unsupported`."""
    refusal = Refusal(drop=drop_unsupported, own=request.wire in ("", NAME))
    extra = request.extra if refusal.own else {}
    for name in () if refusal.own else request.extra:
        refusal.cannot(name, "what it says has no counterpart at this provider")
    if request.wants_one_call:
        refusal.cannot("parallel_tool_calls", "this provider cannot be kept to one call at a time")
    system, contents = history.contents(request, refusal)
    body: Json = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    config = settings.generation_config(request, refusal) | _inside(extra, "generationConfig")
    if request.reasoning is not None and "generationConfig.thinkingConfig" in extra:
        config["thinkingConfig"] = settings.thinking(request, refusal) | extra["generationConfig.thinkingConfig"]
    if config:
        body["generationConfig"] = config
    _add_tools(body, request, extra)
    _add_tier(body, request, refusal)
    if request.wire == NAME and request.metadata:
        body["labels"] = request.metadata
    body |= {name: value for name, value in extra.items() if "." not in name}
    return dumps(body)


def _inside(extra: Json, name: str) -> Json:
    """The fields of `extra` that stand within the field `name`."""
    return {key.removeprefix(f"{name}."): value for key, value in extra.items() if key.startswith(f"{name}.")}


def _add_tools(body: Json, request: Request, extra: Json) -> None:
    options: dict[str, Json] = {}
    others: dict[int, Json] = {}
    for path, value in extra.items():
        other = _OTHER_TOOL.fullmatch(path)
        if other:
            place = int(other[1])
            others[place] = others.get(place, {}) | value
        elif _FUNCTION_OPTION.fullmatch(path):
            name = str(value.get("name"))
            options[name] = options.get(name, {}) | value
    functions = [_function(tool) | options.get(tool.name, {}) for tool in request.tools]
    if functions:
        # Where they stood among Google's own, as far as these tell.
        others[next(place for place in range(len(others) + 1) if place not in others)] = {
            "functionDeclarations": functions
        }
    tools = [others[place] for place in sorted(others)]
    if tools:
        body["tools"] = tools
    config = _inside(extra, "toolConfig")
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
    if tier in _TIERS or (refusal.own and tier not in tiers.USUAL):
        body["serviceTier"] = tier
    elif tier not in tiers.USUAL:
        refusal.cannot("service_tier", f"tier {tier!r} is not offered by this provider")
    elif tier and request.wire == NAME:
        body["serviceTier"] = tier
