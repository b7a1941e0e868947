"""Which reader a file is for: told by its shape, never by its name."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ledger.reconcile import anthropic, openai
from ledger.reconcile.export import Export, ExportError, Line, Problem, parse_json
from ledger.reconcile.mapped import mapped_csv, parse_mapping

MAX_BYTES = 64 * 1024 * 1024
_KNOWN = (
    "OpenAI costs or completions usage (JSON, CSV), Anthropic cost_report or usage_report (JSON), any CSV by a mapping"
)
Reader = Callable[..., Export]
_JSON_OBJECTS: Mapping[str, Reader] = {openai.COSTS_OBJECT: openai.costs_json, openai.USAGE_OBJECT: openai.usage_json}


class SourceFile(msgspec.Struct, frozen=True):
    """One file as it came."""

    name: str
    content: bytes


def read(files: Sequence[SourceFile], *, now: datetime, mapping: Any = None, account: str = "") -> Export:
    """All files as one export; costs and usage of the same days complete each other. Raises ExportError.

    mapping: how a CSV of another form is read (text or a parsed object). account: keep only lines of that project,
    workspace or key. The same kind of export twice for one day is refused: it would be counted twice.
    """
    exports: dict[str, Export] = {}
    for file in files:
        try:
            export = _read(file.content, now=now, mapping=mapping)
        except ExportError as error:
            raise ExportError(error.problems, file=file.name) from None
        before = exports.get(export.format)
        if before is not None and before.days & export.days:
            day = min(before.days & export.days)
            raise ExportError([Problem(0, "", f"{day} is in another file of the same kind too")], file=file.name)
        exports[export.format] = _joined(before, export) if before else export
    return _merged(list(exports.values()), account=account)


def _read(content: bytes, *, now: datetime, mapping: Any) -> Export:
    if len(content) > MAX_BYTES:
        raise ExportError([Problem(0, "", f"{len(content)} bytes: at most {MAX_BYTES}; split the file by days")])
    text = content.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise ExportError([Problem(0, "", "the file is empty")])
    if text.lstrip()[:1] in (b"{", b"["):
        if mapping is not None:
            raise ExportError([Problem(0, "", "is JSON: a mapping is for CSV")])
        return _read_json(parse_json(text), now=now)
    return _read_csv(text, now=now, mapping=mapping)


def _read_json(pages: Any, *, now: datetime) -> Export:
    listed = pages if isinstance(pages, list) else [pages]
    if not listed or not all(isinstance(page, dict) and isinstance(page.get("data"), list) for page in listed):
        raise ExportError([Problem(0, "data", f"no page of an export; known: {_KNOWN}")])
    found = [bucket for page in listed for bucket in page["data"] if isinstance(bucket, dict)]
    # What is no list is named by the reader, with its bucket.
    listed_in = [bucket.get("results") or bucket.get("result") for bucket in found]
    results = [result for each in listed_in if isinstance(each, list) for result in each]
    first = next((result for result in results if isinstance(result, dict)), {})
    reader = _JSON_OBJECTS.get(str(first.get("object", "")))
    if reader is None and any("starting_at" in bucket for bucket in found):
        reader = anthropic.usage_report if "uncached_input_tokens" in first else anthropic.cost_report
    if reader is None and not first and (not found or any("start_time" in bucket for bucket in found)):
        reader = openai.costs_json  # days without anything: costs and usage look the same
    if reader is None:
        raise ExportError([Problem(1, "object", f"{first.get('object')!r} is no export known here; known: {_KNOWN}")])
    return reader(pages, now=now)


def _read_csv(content: bytes, *, now: datetime, mapping: Any) -> Export:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ExportError([Problem(0, "", f"not UTF-8 (byte {error.start})")]) from None
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text), delimiter="\t" if "\t" in first and "," not in first else ",", strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        table = [dict(zip(header, row, strict=False)) for row in _whole(rows, len(header))]
    except csv.Error as error:
        raise ExportError([Problem(rows.line_num, "", f"not CSV: {error}")]) from None
    if len(set(header)) != len(header):
        raise ExportError([Problem(1, next(n for n in header if header.count(n) > 1), "the column appears twice")])
    if mapping is not None:
        return mapped_csv(table, header=header, mapping=parse_mapping(mapping), now=now)
    for columns, reader in ((openai.COSTS_CSV, openai.costs_csv), (openai.USAGE_CSV, openai.usage_csv)):
        if columns <= set(header):
            return reader(table, now=now)
    if set(header) == openai.EMPTY_CSV:
        return openai.costs_csv(table, now=now)
    named = ", ".join(header[:12])
    raise ExportError([Problem(1, "", f"the columns {named} are of no export known here; known: {_KNOWN}")])


def _whole(rows: Iterable[list[str]], width: int) -> list[list[str]]:
    """The rows, each as wide as the header; blank lines are left out."""
    found: list[list[str]] = []
    for number, row in enumerate(rows, start=2):
        if len(row) > width or 0 < len(row) < width:
            raise ExportError([Problem(number, "", f"has {len(row)} fields, the header {width}")])
        if row:
            found.append(row)
    return found


def _joined(one: Export, other: Export) -> Export:
    return msgspec.structs.replace(one, lines=one.lines + other.lines, days=one.days | other.days)


def _merged(exports: list[Export], *, account: str) -> Export:
    """Exports of different kinds as one. Of two that both count, the amounts' own quantities are left out."""
    if not exports:
        raise ExportError([Problem(0, "", "no file was given")])
    usage_only = [export for export in exports if export.has_quantities and not export.has_amounts]
    counts_elsewhere = bool(usage_only) and len(usage_only) < len(exports)
    lines: list[Line] = []
    for export in exports:
        drop = counts_elsewhere and export not in usage_only
        lines += [msgspec.structs.replace(line, quantity=None) if drop else line for line in export.lines]
    if account:
        lines = [line for line in lines if account in line.accounts or account == line.key]
        if not lines:
            raise ExportError([Problem(0, "", f"no line is of {account!r}")])
    days = exports[0].days.union(*(export.days for export in exports[1:]))
    if counts_elsewhere:
        days = days.intersection(*(export.days for export in exports))
        lines = [line for line in lines if line.day in days]
    if not days:
        raise ExportError([Problem(0, "", "the files speak for no day in common")])
    return Export(format=" + ".join(export.format for export in exports), lines=tuple(lines), days=days)
