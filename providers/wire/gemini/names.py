"""Field names of the wire, which Google takes and gives in two spellings: `inlineData` and `inline_data`."""

from __future__ import annotations

import re
from typing import Any

from providers.unified import Json
from providers.wire.jsontext import dumps as dumps

NAME = "gemini"
_UNDERSCORE = re.compile(r"_([a-z0-9])")


def camel(value: Json) -> Json:
    """`value` with its own field names in camelCase, without null fields; what the fields hold is not touched."""
    return {
        _UNDERSCORE.sub(lambda match: match[1].upper(), key) if "_" in key else key: item
        for key, item in value.items()
        if item is not None
    }


def obj(value: Any) -> Json:
    """The object `value` in camelCase; an empty one for anything else."""
    return camel(value) if isinstance(value, dict) else {}


def objects(value: Any) -> list[Json]:
    """The objects in the list `value`, each in camelCase."""
    return [camel(item) for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def string(value: Any) -> str:
    """`value` if it is text; anything else is no text."""
    return value if isinstance(value, str) else ""
