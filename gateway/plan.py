"""What one request will need, worked out before anything is held or sent: target, price, bounds, body."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
from msgspec import Struct

from gateway.errors import ApiError
from gateway.expectations import Expectations
from gateway.keyring import Principal
from gateway.settlement import estimated_input_tokens
from gateway.snapshot import KINDS, LimitInfo, Snapshot, Target
from ledger import bounds
from ledger.money import ZERO_USD
from ledger.rating import Sheet
from providers.adapters.base import PART_OF, Adapter
from providers.errors import ProviderError, Unsupported
from providers.http import Deadlines
from providers.wire.base import Admitted, Operation, Wire
from providers.wire.media import MEDIA

# Sent where a limit needs a cap and neither the client nor the catalog names one.
FALLBACK_OUTPUT_TOKENS = 4096
# What a server-side tool may be used at most within one call, for the bound of its fees.
MOST_SEARCHES = 20
# What writes no text: nothing of it is capped, and no output is held for.
UNWRITTEN = ("embeddings", "rerank", "count_tokens")
# What no provider bills: no money and no tokens are held for it, and however it ends, it costs nothing.
UNBILLED = ("count_tokens",)


class Plan(Struct, frozen=True):
    """`sent_cap` is the output cap the gateway put in by itself; None: the client's own, or none.

    `wire` is that of the provider, for the `operation` it is asked for. `bills`: whether the provider may charge for
    it.
    """

    admitted: Admitted
    target: Target
    adapter: Adapter
    operation: Operation
    wire: Wire
    passes_through: bool
    body: bytes
    sheet: Sheet | None
    limits: tuple[LimitInfo, ...]
    bound_usd: Decimal | None
    bound_tokens: int
    input_estimate: int | None
    sent_cap: int | None
    deadlines: Deadlines
    bills: bool = True


def plan_for(
    target: Target,
    *,
    snapshot: Snapshot,
    wire: Wire,
    body: bytes,
    admitted: Admitted,
    principal: Principal,
    timeout_s: float | None,
    expectations: Expectations,
) -> Plan:
    """Raises ApiError or ProviderError (InvalidRequest, Unsupported) for whatever can be refused now."""
    adapter = _adapter(target)
    operation = adapter.operation_for(admitted.operation)
    provider_wire = adapter.wire_for(operation)
    is_medium = operation in MEDIA
    if not target.offers(admitted.operation):
        raise _wrong_kind(target, admitted.operation)
    sheet = snapshot.prices.sheet_at(model_id=target.model_id, at=datetime.now(UTC))
    limits = snapshot.limits_for(
        key=principal.key_id, user=principal.user_id, team=principal.team_id, model=target.model_id
    )
    capping = [limit for limit in limits if limit.blocks and limit.metric in ("usd", "tokens")]
    output_cap = _output_cap(admitted, target)
    sent_cap = output_cap if output_cap and capping and admitted.max_output_tokens is None else None
    strict = any(limit.strict for limit in capping)
    bills = admitted.operation not in UNBILLED
    input_bound = _input_bound(body, admitted, target, strict=strict)
    bound_tokens = input_bound + output_cap * admitted.n
    bound_usd = _bound_usd(limits, sheet=sheet, admitted=admitted, input_tokens=input_bound, output_tokens=output_cap)
    if not bills:
        bound_usd, bound_tokens = ZERO_USD, 0
    if bound_usd is None and any(limit.metric == "usd" for limit in capping):
        raise _unpriced(target)
    # One medium is no measure for the next: how long or how large this one may be is known.
    usual = expectations.usual(model=target.model_id) if capping and not strict and not is_medium else None
    if usual is not None and bound_usd is not None:
        bound_usd, bound_tokens = min(bound_usd, usual[0]), min(bound_tokens, usual[1])
    passes_through = provider_wire.name == wire.name
    return Plan(
        admitted=admitted,
        target=target,
        adapter=adapter,
        operation=operation,
        wire=provider_wire,
        passes_through=passes_through,
        body=_body(body, wire, admitted, target, provider_wire, passes_through=passes_through, cap=sent_cap),
        sheet=sheet,
        limits=limits,
        bound_usd=bound_usd,
        bound_tokens=bound_tokens,
        input_estimate=None if is_medium else estimated_input_tokens(body_bytes=len(body), admitted=admitted),
        sent_cap=sent_cap,
        deadlines=_deadlines(adapter, target, stream=admitted.stream, timeout_s=timeout_s, is_medium=is_medium),
        bills=bills,
    )


def _adapter(target: Target) -> Adapter:
    """Raises ApiError provider_credential_invalid where the provider's row lacks what a call needs."""
    if target.adapter is None:
        raise ApiError(
            "provider_credential_invalid",
            f"The provider {target.provider_name!r} is not set up: its administrator must give it a credential.",
        )
    return target.adapter


def _unpriced(target: Target) -> ApiError:
    return ApiError(
        "unpriced_model",
        f"{target.name!r} has no price that covers this call, and a USD limit applies: publish a price for it.",
        param="model",
    )


def _wrong_kind(target: Target, operation: Operation) -> Unsupported:
    kinds = ", ".join(sorted(target.capabilities & KINDS))
    return Unsupported(
        f"The catalog says that {target.name!r} has no {PART_OF.get(operation, operation)}"
        f"{f', but {kinds}' if kinds else ''}: use another model.",
        param="model",
        provider=target.provider_name,
    )


def _output_cap(admitted: Admitted, target: Target) -> int:
    """Tokens one choice may write: the client's cap, else the catalog's."""
    if admitted.operation in UNWRITTEN:
        return 0
    return (
        admitted.max_output_tokens
        or target.default_max_output_tokens
        or target.max_output_tokens
        or FALLBACK_OUTPUT_TOKENS
    )


def _input_bound(body: bytes, admitted: Admitted, target: Target, *, strict: bool) -> int:
    if admitted.input_bound is not None:
        return admitted.input_bound
    if admitted.server_tools and target.context_window:
        # What a search brings back is input, too: only the context bounds it.
        return target.context_window
    return bounds.input_bound_tokens(
        body_bytes=len(body),
        media_bytes=admitted.media_bytes,
        message_count=admitted.message_count,
        media=_media(admitted),
        strict=strict,
        context_window=target.context_window,
    )


def _media(admitted: Admitted) -> list[bounds.Media]:
    """The media of a request. Only their whole size is known: the first of each kind is taken to have all of it."""
    media = []
    for kind, count in admitted.media.items():
        sized = admitted.media_bytes * 3 // 4
        for n in range(count):
            media.append(bounds.Media(kind=kind, size_bytes=sized if n == 0 else 0))  # type: ignore[arg-type]
    return media


def _bound_usd(
    limits: tuple[LimitInfo, ...], *, sheet: Sheet | None, admitted: Admitted, input_tokens: int, output_tokens: int
) -> Decimal | None:
    if sheet is None:
        return None
    if not any(limit.metric == "usd" for limit in limits):
        return Decimal(0)
    fees = dict.fromkeys(("web_searches", "file_searches"), MOST_SEARCHES) if admitted.server_tools else {}
    fees |= admitted.fees
    if admitted.fees:  # a side without a rate is priced by what is counted instead
        input_tokens, output_tokens = bounds.priced_sides(
            sheet, input_tokens=input_tokens, output_tokens=output_tokens, counted=admitted.fees
        )
    return bounds.upper_bound_usd(
        sheet=sheet,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        n=admitted.n,
        service_tier=admitted.service_tier,
        variant=admitted.variant,
        fees=fees or None,
    )


def _body(
    body: bytes,
    wire: Wire,
    admitted: Admitted,
    target: Target,
    provider_wire: Wire,
    *,
    passes_through: bool,
    cap: int | None,
) -> bytes:
    """The bytes for the provider: the client's own, or translated to the provider's wire."""
    if passes_through:
        return provider_wire.rewrite(admitted, model=target.upstream_name, max_output_tokens=cap)
    request = wire.decode_request(body)
    request = msgspec.structs.replace(
        request,
        model=target.upstream_name,
        max_output_tokens=request.max_output_tokens or cap or target.default_max_output_tokens
        or target.max_output_tokens,
    )
    try:
        return provider_wire.encode_request(request, drop_unsupported=admitted.drop_unsupported)
    except ProviderError as error:
        error.provider = target.provider_name
        raise


def _deadlines(
    adapter: Adapter, target: Target, *, stream: bool, timeout_s: float | None, is_medium: bool = False
) -> Deadlines:
    """The provider's or the model's deadlines; a client may only lower the total."""
    config = adapter.config
    if is_medium:
        # An image takes longer than a text, and its stream is silent meanwhile: the total alone bounds it.
        longest_s = max(config.timeout_s, config.stream_timeout_s)
        usual = config.deadlines(stream=False, timeout_s=target.timeout_s or longest_s)
    else:
        usual = config.deadlines(stream=stream, timeout_s=target.timeout_s)
    if timeout_s is None or timeout_s >= usual.total_s:
        return usual
    return msgspec.structs.replace(usual, total_s=timeout_s)
