"""Google's own schema (a subset of OpenAPI 3.0) -> JSON schema. The way back is not needed: both take JSON schema."""

from __future__ import annotations

from typing import Any

from providers.unified import Json
from providers.wire.gemini.names import camel

_LISTS = ("anyOf", "prefixItems")
_INTEGERS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def json_schema(value: Json) -> Json:
    """JSON schema of a schema in Google's words: "STRING" is string, `nullable` is one more type."""
    said = camel(value)
    nullable = said.pop("nullable", False) is True
    out: Json = {}
    for key, item in said.items():
        out[key] = _field(key, item)
    if nullable and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


def _field(key: str, item: Any) -> Any:
    if key == "type" and isinstance(item, str):
        return item.lower()
    if key == "properties" and isinstance(item, dict):
        return {name: _inner(schema) for name, schema in item.items()}
    if key == "items":
        return _inner(item)
    if key in _LISTS and isinstance(item, list):
        return [_inner(schema) for schema in item]
    # Counts are int64 there, which JSON of a proto writes as text.
    if key in _INTEGERS and isinstance(item, str) and item.isdecimal():
        return int(item)
    return item


def _inner(value: Any) -> Any:
    return json_schema(value) if isinstance(value, dict) else value
