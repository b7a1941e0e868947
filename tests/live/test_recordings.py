"""Every recorded exchange of the two wires, played through the gateway: the bytes, the usage and the cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from ledger.models import Call, PriceSheet
from ledger.money import quantize_usd
from ledger.publishing import publish
from tests import factories, recordings
from tests.ledger.test_recorded_costs import METER_OF_RATE, ledger_is_stricter
from tests.live import books
from tests.live.gateway import Account, Gateway
from tests.live.test_pass_through import split_comment
from tests.upstream.recorded import body_of, reply_from

WIRE_OF_API = {"chat": "openai_compatible", "anthropic.messages": "anthropic"}
# expected.usage name -> column of the call
COLUMNS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "reasoning": "reasoning_tokens",
}


def played(*, failed: bool) -> list[Any]:
    wanted = [
        record
        for api in WIRE_OF_API
        for record in recordings.exchanges(api=api, failed=failed)
        if record["method"] == "POST"
    ]
    return recordings.cases(wanted)


def rates_of(expected: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, price in (expected.get("rates") or {}).items():
        meter, per = METER_OF_RATE[name]
        for above, amount in [(0, price)] if isinstance(price, str) else [(0, price["base"]), *price["tiers"]]:
            amount_usd = quantize_usd(Decimal(amount))
            reason = "" if amount_usd else "free, says the recording"
            yield {
                "meter": meter, "per": per, "amount_usd": amount_usd, "above_tokens": above, "zero_reason": reason
            }  # fmt: skip


TESTS = {False: ("handed on", "told on the other wire"), True: ("refused",)}


@pytest.fixture(scope="module")
def accounts(gateway: Gateway) -> dict[tuple[str, str], Account]:
    """A key, a model and its recorded rates for each record and test, made at once: the catalog is read anew once."""
    made = {}
    for failed, tests in TESTS.items():
        found = [case.values[0] for case in played(failed=failed) if case.values[0]]
        for record, test in itertools.product(found, tests):
            account = gateway.account(wire=WIRE_OF_API[record["api"]], priced=False, sync=False)
            made[test, record["id"]] = account
            publish_rates(account, record)
    gateway.sync()
    return made


def publish_rates(account: Account, record: dict[str, Any]) -> None:
    rates = list(rates_of(record.get("expected") or {}))
    if rates:
        sheet = PriceSheet.objects.create(
            model=account.model, book="list", valid_from=factories.LONG_AGO, source=PriceSheet.Source.FILE
        )
        for rate in rates:
            sheet.rates.create(**rate)
        publish(sheet=sheet, actor=None, reason="recorded", now=factories.LONG_AGO)


def ask(gateway: Gateway, account: Account, record: dict[str, Any]) -> Any:
    """What a client of the wire would send: the recorded answer does not depend on it."""
    ask_chat = record["api"] == "chat"
    options: dict[str, Any] = {"stream": True} if record["response_format"] == "sse" else {}
    if ask_chat and options:
        options["stream_options"] = {"include_usage": True}
    return (gateway.chat if ask_chat else gateway.messages)(account, **options)


@pytest.mark.parametrize("record", played(failed=False))
def test_a_recorded_answer_is_handed_on_and_booked(
    gateway: Gateway, accounts: dict[tuple[str, str], Account], record: dict[str, Any]
) -> None:
    account = accounts["handed on", record["id"]]
    gateway.upstream.script(reply_from(record))
    answered = ask(gateway, account, record)
    assert answered.status_code == 200
    streamed = record["response_format"] == "sse"
    got = split_comment(answered.content)[1] if streamed else answered.content
    assert got == body_of(record)
    assert_booked(books.call_of(account.key.pk), record)


def assert_booked(call: Call, record: dict[str, Any]) -> None:
    assert call.outcome == "ok"
    expected = record.get("expected") or {}
    usage = expected.get("usage")
    if not usage:
        return
    assert call.usage_source == "reported"
    found = {name: getattr(call, column) for name, column in COLUMNS.items()}
    assert found == {name: usage.get(name) or 0 for name in COLUMNS}
    written = sum(usage.get(name) or 0 for name in ("cache_write_5m", "cache_write_1h"))
    assert call.cache_write_tokens == (written or usage.get("cache_write") or 0)
    if expected.get("cost_usd") is None:
        return
    if ledger_is_stricter(expected["rates"], usage):
        assert (call.cost_usd, call.cost_source) == (None, "unknown")
    else:
        assert call.unpriced_reason == ""
        assert call.cost_usd == quantize_usd(Decimal(expected["cost_usd"]))


@pytest.mark.parametrize("record", played(failed=True))
def test_a_recorded_refusal_is_mapped_and_costs_nothing(
    gateway: Gateway, accounts: dict[tuple[str, str], Account], record: dict[str, Any]
) -> None:
    account = accounts["refused", record["id"]]
    gateway.upstream.script(reply_from(record))
    answered = ask(gateway, account, record)
    assert answered.status_code >= 400
    error = answered.json()["error"]
    assert error["code"]
    assert error["message"]
    call = books.call_of(account.key.pk)
    assert (call.http_status, call.outcome, call.cost_usd) == (record["status"], "refused", Decimal(0))


@pytest.mark.parametrize("record", played(failed=False))
def test_a_recorded_answer_can_be_told_on_the_other_wire(
    gateway: Gateway, accounts: dict[tuple[str, str], Account], record: dict[str, Any]
) -> None:
    account = accounts["told on the other wire", record["id"]]
    gateway.upstream.script(reply_from(record))
    streamed = record["response_format"] == "sse"
    options: dict[str, Any] = {"stream": True} if streamed else {}
    other = gateway.messages if record["api"] == "chat" else gateway.chat
    answered = other(account, **options)
    assert answered.status_code == 200
    if streamed:
        assert b"event: error" not in answered.content
        assert (b"message_stop" if record["api"] == "chat" else b"[DONE]") in answered.content
    else:
        assert msgspec.json.decode(answered.content)["usage"]
    assert_booked(books.call_of(account.key.pk), record)

