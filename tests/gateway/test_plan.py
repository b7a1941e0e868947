"""What one request needs, worked out before anything is held: bounds, caps, prices, bodies, refusals."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from gateway.errors import ApiError
from gateway.expectations import LEAST_CALLS, Expectations
from gateway.keyring import Principal
from gateway.plan import FALLBACK_OUTPUT_TOKENS, MOST_SEARCHES, Plan, plan_for
from gateway.snapshot import LimitInfo, Snapshot, Target
from ledger.bounds import TOKENS_PER_MESSAGE
from ledger.money import ceil_usd
from ledger.prices import PriceBook
from ledger.rating import Rate, Sheet
from providers import registry
from providers.adapters.base import ProviderConfig
from providers.errors import Unsupported
from providers.wire import anthropic_messages, openai_chat
from providers.wire.base import Admitted, Operation, Wire

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
RATES = (Rate("input", Decimal(3)), Rate("output", Decimal(15)))
TEXT = "Do the books balance?"


def make_target(*, adapter: str = "openai", **fields: Any) -> Target:
    config = ProviderConfig(
        name="main", adapter=adapter, credential="sk-test", base_url="http://127.0.0.1:1/v1", allow_plain_http=True,
        allow_private_address=True, timeout_s=30, stream_timeout_s=600,
    )  # fmt: skip
    values: dict[str, Any] = {
        "model_id": 7, "provider_id": 1, "provider_name": "main", "name": "house-model", "upstream_name": "up-1",
        "adapter": registry.build(config), **fields,
    }  # fmt: skip
    return Target(**values)


def make_limit(metric: str = "usd", **fields: Any) -> LimitInfo:
    values: dict[str, Any] = {
        "id": 5, "subject": "key", "subject_id": 1, "metric": metric, "period": "day", "amount": Decimal(10),
        "blocks": True, "strict": True, **fields,
    }  # fmt: skip
    return LimitInfo(**values)


def plan(
    *limits: LimitInfo, target: Target | None = None, rates: tuple[Rate, ...] | None = RATES,
    wire: Wire = openai_chat.WIRE, expectations: Expectations | None = None, timeout_s: float | None = None,
    admitted: dict[str, Any] | None = None, **body: Any,
) -> Plan:  # fmt: skip
    """The plan of one chat request by key 1; `admitted` changes what the wire read of it."""
    target = target or make_target()
    sheets = [] if rates is None else [
        Sheet(id=1, model_id=7, book="list", valid_from=LONG_AGO, rates=rates)
    ]
    raw = text_of(**body)
    return plan_for(
        target, snapshot=Snapshot(version=1, targets={}, routes={}, limits=list(limits), prices=PriceBook(sheets)),
        wire=wire, body=raw, admitted=read(wire, raw, **(admitted or {})),
        principal=Principal(1, 1, None, frozenset({"call"}), frozenset()), timeout_s=timeout_s,
        expectations=expectations or Expectations(),
    )  # fmt: skip


def read(wire: Wire, raw: bytes, **changes: Any) -> Admitted:
    return msgspec.structs.replace(wire.admit(raw), **changes)


def text_of(**body: Any) -> bytes:
    return msgspec.json.encode({"model": "house-model", "messages": [{"role": "user", "content": TEXT}], **body})


# --- bounds and caps ---


@pytest.mark.parametrize(
    ("catalog", "asked", "cap"),
    [
        ({}, None, FALLBACK_OUTPUT_TOKENS),
        ({"max_output_tokens": 900}, None, 900),
        ({"max_output_tokens": 900, "default_max_output_tokens": 300}, None, 300),
        ({"max_output_tokens": 900, "default_max_output_tokens": 300}, 50, 50),
        ({"max_output_tokens": 900}, 2000, 2000),
    ],
)
def test_the_output_is_bounded_by_the_client_then_the_default_then_the_model(
    catalog: dict[str, int], asked: int | None, cap: int
) -> None:
    body = {} if asked is None else {"max_completion_tokens": asked}
    made = plan(make_limit("tokens"), target=make_target(**catalog), **body)
    assert made.bound_tokens == len(text_of(**body)) + TOKENS_PER_MESSAGE + cap
    # What the gateway put in is sent and said; the client's own stays as it is.
    assert made.sent_cap == (cap if asked is None else None)
    assert json.loads(made.body)["max_completion_tokens"] == cap


@pytest.mark.parametrize("limits", [
    (), (make_limit("requests"),), (make_limit("concurrency"),), (make_limit("usd", blocks=False),),
    (make_limit("tokens", blocks=False),), (make_limit("usd", subject_id=2),),
])  # fmt: skip
def test_without_a_limit_that_needs_it_no_cap_is_sent(limits: tuple[LimitInfo, ...]) -> None:
    made = plan(*limits, target=make_target(max_output_tokens=900))
    assert made.sent_cap is None
    assert "max_completion_tokens" not in json.loads(made.body)


def test_a_strict_bound_counts_a_token_a_byte_and_another_half_of_them() -> None:
    strict = plan(make_limit("tokens"), max_completion_tokens=1).bound_tokens
    loose = plan(make_limit("tokens", strict=False), max_completion_tokens=1).bound_tokens
    size = len(text_of(max_completion_tokens=1))
    assert (strict, loose) == (size + TOKENS_PER_MESSAGE + 1, -(-size // 2) + TOKENS_PER_MESSAGE + 1)


def test_each_choice_may_write_as_much() -> None:
    one = plan(make_limit("tokens"), max_completion_tokens=100).bound_tokens
    three = plan(make_limit("tokens"), max_completion_tokens=100, n=3).bound_tokens
    assert three - one == 200 + len(text_of(n=3)) - len(text_of())


def test_no_input_is_larger_than_the_context() -> None:
    made = plan(make_limit("tokens"), target=make_target(context_window=10), max_completion_tokens=1)
    assert made.bound_tokens == 11


def test_the_bound_in_usd_is_every_token_at_its_rate() -> None:
    made = plan(make_limit(), max_completion_tokens=100)
    tokens_in = made.bound_tokens - 100
    assert made.bound_usd == ceil_usd((Decimal(3) * tokens_in + Decimal(15) * 100) / 1_000_000)


def test_without_a_usd_limit_no_money_is_held() -> None:
    assert plan(make_limit("tokens")).bound_usd == 0
    assert plan().bound_usd == 0


def test_a_search_may_fill_the_context_and_is_paid_by_the_piece() -> None:
    rates = (*RATES, Rate("web_searches", Decimal(10), 1_000), Rate("file_searches", Decimal(2), 1_000))
    made = plan(
        make_limit(), target=make_target(context_window=1_000), rates=rates, max_completion_tokens=1,
        admitted={"server_tools": True},
    )  # fmt: skip
    fees = Decimal("0.012") * MOST_SEARCHES
    assert made.bound_tokens == 1_001
    assert made.bound_usd == ceil_usd(Decimal("0.003015") + fees)


def test_nothing_is_held_for_what_nobody_bills() -> None:
    made = plan(make_limit(), target=make_target(adapter="anthropic"), wire=anthropic_messages.WIRE, max_tokens=5,
                admitted={"operation": "count_tokens"})  # fmt: skip
    assert (made.bound_usd, made.bound_tokens, made.bills, made.sent_cap) == (Decimal(0), 0, False, None)


# --- prices ---


def test_the_sheet_in_force_is_the_one_that_will_price_it() -> None:
    assert plan().sheet is not None
    assert plan(rates=None).sheet is None


def test_a_call_without_a_price_under_a_usd_limit_is_a_402() -> None:
    with pytest.raises(ApiError) as refused:
        plan(make_limit(), rates=None)
    assert (refused.value.status, refused.value.code, refused.value.param) == (402, "unpriced_model", "model")
    assert "'house-model' has no price that covers this call" in refused.value.message


def test_a_tier_that_the_sheet_does_not_price_is_a_402_too() -> None:
    with pytest.raises(ApiError) as refused:
        plan(make_limit(), rates=(Rate("output", Decimal(15)),), service_tier="priority")
    assert refused.value.status == 402


@pytest.mark.parametrize("limits", [(), (make_limit("tokens"),), (make_limit("usd", blocks=False),)])
def test_without_a_blocking_usd_limit_a_call_without_a_price_is_made(limits: tuple[LimitInfo, ...]) -> None:
    assert plan(*limits, rates=None).bound_usd is None


# --- expected ---


def expecting(calls: int, *, cost_usd: str = "0.0001", tokens: int = 30) -> Expectations:
    made = Expectations()
    for _ in range(calls):
        made.note(model=7, cost_usd=Decimal(cost_usd), tokens=tokens)
    return made


def test_in_the_mode_expected_the_usual_is_held() -> None:
    made = plan(make_limit(strict=False), expectations=expecting(LEAST_CALLS))
    assert (made.bound_usd, made.bound_tokens) == (Decimal("0.0001"), 31)


def test_the_usual_is_held_only_once_enough_calls_were_seen() -> None:
    bound = plan(make_limit(strict=False)).bound_usd
    assert plan(make_limit(strict=False), expectations=expecting(LEAST_CALLS - 1)).bound_usd == bound
    assert bound is not None
    assert bound > Decimal("0.01")


def test_one_strict_limit_holds_the_bound_for_all() -> None:
    limits = (make_limit(strict=False), make_limit("tokens", id=6, strict=True))
    assert plan(*limits, expectations=expecting(LEAST_CALLS)).bound_tokens > 1_000


def test_the_usual_never_holds_more_than_the_bound() -> None:
    made = plan(
        make_limit(strict=False), expectations=expecting(LEAST_CALLS, cost_usd="9", tokens=10**6),
        max_completion_tokens=1,
    )  # fmt: skip
    assert made.bound_tokens < 1_000
    assert made.bound_usd is not None
    assert made.bound_usd < 1


def test_the_usual_is_no_answer_to_an_unknown_price() -> None:
    with pytest.raises(ApiError, match="no price"):
        plan(make_limit(strict=False), rates=None, expectations=expecting(LEAST_CALLS))


# --- bodies ---


def test_on_the_same_wire_the_body_passes_but_for_the_model() -> None:
    made = plan(seed=7, future_field={"a": [1, None]})
    assert made.passes_through
    assert json.loads(made.body) == json.loads(text_of(seed=7, future_field={"a": [1, None]})) | {"model": "up-1"}


def test_on_another_wire_the_body_is_translated() -> None:
    made = plan(target=make_target(adapter="anthropic", max_output_tokens=77), temperature=0.5)
    sent = json.loads(made.body)
    assert not made.passes_through
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("up-1", 0.5, 77)
    assert made.sent_cap is None


def test_what_another_wire_cannot_say_is_refused_by_name_or_dropped_when_asked() -> None:
    target = make_target(adapter="anthropic", max_output_tokens=77)
    with pytest.raises(Unsupported) as refused:
        plan(target=target, seed=7)
    assert (refused.value.param, refused.value.provider) == ("seed", "main")
    dropped = plan(target=target, seed=7, admitted={"drop_unsupported": True})
    assert "seed" not in json.loads(dropped.body)


def test_a_model_whose_catalog_lacks_a_medium_is_not_asked_for_it() -> None:
    with pytest.raises(Unsupported, match="'house-model' has no images"):
        plan(target=make_target(capabilities=frozenset({"chat"})), admitted={"operation": "images"})


@pytest.mark.parametrize(
    ("known", "operation", "said"),
    [
        ({"embeddings"}, "chat", "has no chat, but embeddings"),
        ({"embeddings"}, "responses", "has no responses, but embeddings"),
        ({"embeddings"}, "completions", "has no completions, but embeddings"),
        ({"images", "vision"}, "chat", "has no chat, but images"),
        ({"chat", "streaming"}, "embeddings", "has no embeddings, but chat"),
        ({"embeddings", "rerank"}, "speech", "has no speech, but embeddings, rerank"),
        ({"chat"}, "translations", "has no transcriptions, but chat"),
        ({"tools"}, "images", "has no images: use"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_name_not_for_its_price(
    known: set[str], operation: str, said: str
) -> None:
    target = make_target(capabilities=frozenset(known))
    with pytest.raises(Unsupported, match=f"'house-model' {said}") as refused:
        plan(make_limit(), target=target, rates=None, admitted={"operation": operation})
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("known", "operation"),
    [
        (set(), "chat"), (set(), "speech"), ({"tools", "vision"}, "chat"), ({"tools"}, "embeddings"),
        ({"chat"}, "responses"), ({"chat"}, "completions"), ({"embeddings"}, "count_tokens"),
        ({"images"}, "image_edits"), ({"transcriptions"}, "translations"), ({"chat", "embeddings"}, "embeddings"),
    ],
)  # fmt: skip
def test_what_the_catalog_does_not_know_or_says_hinders_nothing(known: set[str], operation: Operation) -> None:
    assert make_target(capabilities=frozenset(known)).offers(operation)


def test_a_provider_without_a_credential_says_who_must_act() -> None:
    with pytest.raises(ApiError) as refused:
        plan(target=msgspec.structs.replace(make_target(), adapter=None))
    assert refused.value.code == "provider_credential_invalid"
    assert "'main' is not set up" in refused.value.message


# --- deadlines ---


@pytest.mark.parametrize(
    ("stream", "model_s", "asked_s", "total_s"),
    [
        (False, None, None, 30), (True, None, None, 600), (False, 90, None, 90), (False, None, 5, 5),
        (False, None, 99, 30), (True, None, 99, 99), (False, 90, 60, 60),
    ],
)  # fmt: skip
def test_a_client_may_shorten_the_time_and_never_lengthen_it(
    stream: bool, model_s: float | None, asked_s: float | None, total_s: float
) -> None:
    made = plan(target=make_target(timeout_s=model_s), timeout_s=asked_s, stream=stream)
    assert made.deadlines.total_s == total_s
