"""YAML text -> Catalog. Amounts are read as Decimal from the text itself; no number passes through a float."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import yaml

from ledger.catalog.schema import Catalog


class CatalogError(Exception):
    """The file cannot be applied. `errors` holds one line per fault, each with its path in the file."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2 and without duplicate keys.

    YAML 1.1 reads `no` as False, `16:30` as 990 and a date as an object; here they are text.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = getattr(key_node, "value", None)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep=deep)


# Each is narrower than PyYAML's own, so that whatever PyYAML writes without quotes is read back as text.
_RESOLVERS = (
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    ("int", re.compile(r"[-+]?(0|[1-9][0-9_]*)"), "-+0123456789"),
    ("float", re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?"), "-+.0123456789"),
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
)
for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})$"), list(_first))


_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: Decimal(node.value))


def parse(text: str) -> Catalog:
    """The catalog that `text` declares. Raises CatalogError: not YAML, unknown fields, wrong types."""
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        faults = [f"{path}: a NUL character" for path in _with_nul(document, "")]
    except yaml.YAMLError as error:
        raise CatalogError([f"not readable as YAML: {_without_excerpt(error)}"]) from None
    except RecursionError:
        raise CatalogError(["not readable as YAML: nested too deeply"]) from None
    except ValueError as error:
        raise CatalogError([f"not readable as YAML: {error}"]) from None
    if faults:
        raise CatalogError(faults)
    try:
        return msgspec.convert({} if document is None else document, Catalog)
    except msgspec.ValidationError as error:
        raise CatalogError([_path_first(str(error))]) from None


def _without_excerpt(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the piece of the file that the error quotes: that may be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(getattr(error, "reason", "") or "unreadable characters")
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{error.problem or error.context}"


def _path_first(message: str) -> str:
    """'Expected `int`, got `str` - at `$.models[3].x`' -> 'models[3].x: Expected `int`, got `str`'."""
    what, marker, path = message.rpartition(" - at `")
    if not marker:
        return f"the file: {message}"
    return f"{path.rstrip('`').removeprefix('$').removeprefix('.')}: {what}"


def _with_nul(value: object, path: str) -> Iterator[str]:
    """Paths of texts that hold a NUL, which PostgreSQL cannot store."""
    if isinstance(value, str) and "\x00" in value:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _with_nul(key, f"{path}.{str(key).encode('unicode_escape').decode()}".lstrip("."))
            yield from _with_nul(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _with_nul(inner, f"{path}[{index}]")
