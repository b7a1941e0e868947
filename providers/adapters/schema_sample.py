"""The smallest value that a JSON schema accepts: what the sandbox answers where a schema is asked for."""

from __future__ import annotations

from typing import Any

# A schema may contain itself. Below this depth whatever is not required is over anyway.
_MAX_DEPTH = 24
_FORMATS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(schema: Any) -> Any:
    """A small value of the shape `schema` asks for; null for a schema that says nothing understandable."""
    return _sample(schema, root=schema, depth=0)


def _sample(schema: Any, *, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if isinstance(schema.get("$ref"), str):
        return _sample(_referenced(schema["$ref"], root), root=root, depth=depth + 1)
    for several in ("anyOf", "oneOf"):
        if isinstance(schema.get(several), list) and schema[several]:
            return _sample(_simplest(schema[several]), root=root, depth=depth + 1)
    if isinstance(schema.get("allOf"), list):
        return _sample(_merged(schema), root=root, depth=depth + 1)
    return _typed(schema, root=root, depth=depth)


def _typed(schema: dict[str, Any], *, root: Any, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind == "object":
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        return {str(name): _sample(known.get(name, {}), root=root, depth=depth + 1) for name in names}
    if kind == "array":
        count = min(_count(schema, "minItems"), 100)
        return [_sample(schema.get("items"), root=root, depth=depth + 1) for _ in range(count)]
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "text")
        return text.ljust(min(_count(schema, "minLength"), 10_000), "x")
    if kind in ("integer", "number"):
        return _number(schema)
    return False if kind == "boolean" else None


def _number(schema: dict[str, Any]) -> Any:
    for name, step in (("minimum", 0), ("exclusiveMinimum", 1)):
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and bound + step > 0:
            return bound + step
    for name, step in (("maximum", 0), ("exclusiveMaximum", -1)):
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and bound + step < 0:
            return bound + step
    return 0


def _count(schema: dict[str, Any], name: str) -> int:
    value = schema.get(name, 0)
    return value if isinstance(value, int) and value > 0 else 0


def _simplest(schemas: list[Any]) -> Any:
    """The first alternative that is more than null."""
    return next((one for one in schemas if not isinstance(one, dict) or one.get("type") != "null"), schemas[0])


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        for key, value in part.items() if isinstance(part, dict) else ():
            if key == "properties" and isinstance(merged.get(key), dict) and isinstance(value, dict):
                merged[key] = merged[key] | value
            elif key == "required" and isinstance(merged.get(key), list) and isinstance(value, list):
                merged[key] = [*merged[key], *value]
            else:
                merged[key] = value
    return merged


def _referenced(reference: str, root: Any) -> Any:
    """What a local reference (`#/$defs/Name`) points at; None for any other."""
    found = root
    for name in reference.removeprefix("#").split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found if reference.startswith("#") else None
