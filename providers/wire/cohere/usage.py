"""Cohere's usage object -> totals. What it bills is `billed_units`; `tokens` is what the model read, and more."""

from __future__ import annotations

from typing import Any

from providers.counts import Counts, decode_exact
from providers.unified import NO_USAGE, Json, Usage


def of_answer(value: Json, body: bytes) -> Usage:
    """The usage in a whole answer whose JSON text is `body`; version 1 of the API has it in `meta`."""
    for name in ("usage", "meta"):
        if isinstance(value.get(name), dict):
            return read(raw=value[name], exact=decode_exact(body).get(name))
    return NO_USAGE


def read(*, raw: Any, exact: Any) -> Usage:
    """Usage from one object, decoded twice: `raw` to keep, `exact` with Decimals to bill.

    Cached tokens cost what others do and stand only in `raw`. A server of one's own bills nothing and says so by
    having no `billed_units`: its tokens are taken then.
    """
    counts = Counts(exact)
    units = "billed_units"
    if not isinstance(counts.raw.get("billed_units"), dict) and isinstance(counts.raw.get("tokens"), dict):
        units = "tokens"
        counts.flag("derived:billed_units")
    known = {"input": counts.get(units, "input_tokens"), "output": counts.get(units, "output_tokens")}
    totals: dict[str, Any] = {meter: number for meter, number in known.items() if number is not None}
    searches = counts.get("billed_units", "search_units")
    if searches:
        totals["search_units"] = searches
    return Usage(
        totals=totals,
        source="reported" if len(known) == len(totals.keys() & known) else "partial" if totals else "none",
        raw=raw if isinstance(raw, dict) else None,
        flags=counts.flags,
    )


def encode(usage: Usage) -> Json:
    """The totals that are known, as billed and as read: other providers tell no difference."""
    totals = usage.totals
    tokens = {f"{meter}_tokens": int(totals[meter]) for meter in ("input", "output") if meter in totals}
    searches = {"search_units": int(totals["search_units"])} if totals.get("search_units") else {}
    cached = {"cached_tokens": int(totals["cache_read"])} if totals.get("cache_read") else {}
    return {"billed_units": tokens | searches, "tokens": tokens, **cached}
