"""Google's own schema (a subset of OpenAPI 3.0) -> JSON schema. The way back is not needed: both take JSON schema."""

from __future__ import annotations

from typing import Any

from providers.unified import Json
from providers.wire.gemini.names import camel

_LISTS = ("anyOf", "prefixItems")
_INTEGERS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def json_schema(value: Json, *, closed: bool = False) -> Json:
    """JSON schema of a schema in Google's words: "STRING" is string, `nullable` is one more type.

    `closed`: what Google writes by a schema has the properties that the schema names and no others; JSON schema must
    say so.
    """
    said = camel(value)
    nullable = said.pop("nullable", False) is True
    order = said.pop("propertyOrdering", None)
    if said.get("format") == "enum":
        del said["format"]  # says again that there is an `enum`
    out: Json = {key: _field(key, item, closed) for key, item in said.items()}
    if isinstance(out.get("properties"), dict):
        out["properties"] = _ordered(out["properties"], order)
        if closed:
            out.setdefault("additionalProperties", False)
    if nullable and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


def _ordered(properties: Json, order: Any) -> Json:
    """Models write properties in the order of their schema; Google's schemas tell it apart."""
    first = [name for name in order if name in properties] if isinstance(order, list) else []
    return {name: properties[name] for name in dict.fromkeys([*first, *properties])}


def _field(key: str, item: Any, closed: bool) -> Any:
    if key == "type" and isinstance(item, str):
        return item.lower()
    if key == "properties" and isinstance(item, dict):
        return {name: _inner(schema, closed) for name, schema in item.items()}
    if key == "items":
        return _inner(item, closed)
    if key in _LISTS and isinstance(item, list):
        return [_inner(schema, closed) for schema in item]
    # Counts are int64 there, which JSON of a proto writes as text.
    if key in _INTEGERS and isinstance(item, str) and item.isdecimal():
        return int(item)
    return item


def _inner(value: Any, closed: bool) -> Any:
    return json_schema(value, closed=closed) if isinstance(value, dict) else value
