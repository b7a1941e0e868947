"""How a call ended, as the row that settles it: usage -> disjoint meters -> cost."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec import Struct

from ledger import meters
from ledger.money import LIMIT_USD, ZERO_USD, quantize_usd
from ledger.rating import Conditions, Sheet, rate
from ledger.rows import Outcome, SettleRow
from providers.errors import ProviderError, Timeout
from providers.http import NotSent
from providers.unified import Usage
from providers.wire.base import Admitted

# What text is taken to be in tokens where nobody counted them.
BYTES_PER_TOKEN = 4
CACHE_WRITES = meters.CACHE_WRITES


class Ending(Struct, frozen=True):
    """What is known when a call ends, whichever way. `may_have_billed`: without usage the cost is unknown, not zero."""

    outcome: Outcome
    usage: Usage
    served_name: str = ""
    upstream_request_id: str = ""
    http_status: int | None = None
    error_code: str = ""
    may_have_billed: bool = True
    unknown_reason: str = ""


def estimated_input_tokens(*, body_bytes: int, admitted: Admitted) -> int:
    """Tokens of a request's text, by its bytes; inline media are no text."""
    return (body_bytes - admitted.media_bytes) // BYTES_PER_TOKEN


def estimated(usage: Usage, *, input_tokens: int | None, output_bytes: int) -> Usage:
    """The usage of a call whose provider reported it in part or not at all: the text that was seen, marked as such.

    `input_tokens` None: it is no text, and what its wire knows is all there is.
    """
    if input_tokens is None:
        return usage
    totals = dict(usage.totals)
    totals.setdefault("input", input_tokens)
    totals["output"] = max(int(totals.get("output", 0)), -(-output_bytes // BYTES_PER_TOKEN))
    return msgspec.structs.replace(usage, totals=totals, source="estimated")


def ending_of_error(error: ProviderError) -> Ending:
    """How an attempt ended that failed with `error` before any usage was seen.

    An error status bills nothing, nor does a request that never left. A timeout or a broken connection after the
    request was sent may well be billed: that cost is unknown.
    """
    refused = error.status is not None and 400 <= error.status < 500
    unanswered = error.status is None or error.status < 400
    return Ending(
        outcome="refused" if refused else "failed",
        usage=Usage(),
        upstream_request_id=error.upstream_request_id,
        http_status=error.status,
        error_code=error.code,
        may_have_billed=unanswered and not _never_sent(error),
        unknown_reason=f"{error.code}: the provider may have billed it",
    )


def _never_sent(error: ProviderError) -> bool:
    return isinstance(error, NotSent) or (isinstance(error, Timeout) and error.phase == "connect")


def settle_row(
    ending: Ending,
    *,
    call_id: object,
    sheet: Sheet | None,
    held_sheet_id: int | None,
    started_at: datetime,
    finished_at: datetime,
    first_token_ms: int | None,
) -> SettleRow:
    """The row for `settle_batch`. `sheet` prices it: the one valid when the hold was made."""
    usage = ending.usage
    totals = usage.totals
    if usage.counted:
        usage = as_priced(usage, sheet=sheet)
        ending = msgspec.structs.replace(ending, usage=usage)
    split = meters.disjoint(usage.totals)
    cost, reason = _cost(ending, split.meters, input_total=int(totals.get("input", 0)), sheet=sheet, at=started_at)
    return SettleRow(
        id=call_id,  # type: ignore[arg-type]
        outcome=ending.outcome,
        started_at=started_at,
        finished_at=finished_at,
        duration_ms=max(0, int((finished_at - started_at).total_seconds() * 1000)),
        cost_usd=cost,
        cost_source="unknown" if cost is None else "computed" if split.meters else "nothing_used",
        unpriced_reason=reason,
        served_name=ending.served_name,
        upstream_request_id=ending.upstream_request_id,
        http_status=ending.http_status,
        error_code=ending.error_code,
        first_token_ms=first_token_ms,
        input_tokens=int(totals.get("input", 0)),
        cache_read_tokens=int(totals.get("cache_read", 0)),
        cache_write_tokens=sum(int(totals.get(code, 0)) for code in CACHE_WRITES),
        output_tokens=int(totals.get("output", 0)),
        reasoning_tokens=int(totals.get("reasoning", 0)),
        meters=meters.to_json(split.meters),  # type: ignore[arg-type]
        raw_usage=usage.raw,
        usage_source=usage.source,
        usage_flags=(*usage.flags, *split.flags),
        service_tier=usage.service_tier,
        speed=usage.speed,
        region=usage.region,
        variant=usage.variant,
        stated_cost_usd=_stated(usage.stated_cost_usd),
        sheet=sheet.id if sheet is not None and sheet.id != held_sheet_id else None,
    )


def as_priced(usage: Usage, *, sheet: Sheet | None) -> Usage:
    """The usage in the meters that the sheet prices: what was reported, or what the gateway counted in its place.

    Tokens count as reported where the sheet has rates for what was written. Where it prices images, seconds or
    characters instead, these take the place of the tokens of every side that it has no rate for. Where it prices
    neither, the meters stand as they are, so that the reason names them.
    """
    priced = {rate.meter for rate in sheet.rates} if sheet is not None else set()
    sides = {meters.METERS[code].side for code in priced}
    counted = {code: quantity for code, quantity in (usage.counted or {}).items() if code in priced}
    if (usage.totals and ("output" in sides or not counted)) or not usage.counted:
        return usage
    kept = {code: n for code, n in usage.totals.items() if meters.METERS[code].side in sides}
    flags = tuple(f"counted:{code}" for code in (counted or usage.counted))
    return msgspec.structs.replace(
        usage, totals={**kept, **(counted or usage.counted)}, flags=(*usage.flags, *flags), counted=None
    )


def _cost(
    ending: Ending, quantities: dict[str, meters.Quantity], *, input_total: int, sheet: Sheet | None, at: datetime
) -> tuple[Decimal | None, str]:
    usage = ending.usage
    if usage.source == "none":
        if ending.may_have_billed:
            return None, ending.unknown_reason or "the provider reported no usage"
        return ZERO_USD, ""
    rating = rate(
        sheet=sheet,
        meters=quantities,
        input_total=input_total,
        conditions=Conditions(
            at=at, service_tier=usage.service_tier, speed=usage.speed, region=usage.region, variant=usage.variant
        ),
    )
    return rating.cost_usd, rating.unpriced_reason


def _stated(cost_usd: Decimal | None) -> Decimal | None:
    """What the provider says it costs, if the ledger can hold it."""
    if cost_usd is None or not cost_usd.is_finite() or not 0 <= cost_usd < LIMIT_USD:
        return None
    return quantize_usd(cost_usd)
