"""What an administrator changes is seen by every process within five seconds, and rewrites nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from ledger.keys import revoke
from ledger.models import PriceSheet, Rate
from ledger.publishing import draft_from, publish
from tests.live import books
from tests.live.gateway import Gateway, chat_body, read_until, running, usd
from tests.live.streams import CHAT_FRAMES
from tests.upstream import Signal, Wait, events

SEEN_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers, which read the catalog as often as they do in production."""
    environment = {"TOLLBOOK_SNAPSHOT_POLL_S": "1.0"}
    with running(
        database_url=own_database, var_dir=tmp_path_factory.mktemp("var"), workers=2, environment=environment
    ) as made:
        yield made
        books.verify()


def test_a_published_price_is_used_by_both_processes(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-words-4")
    assert gateway.chat(account).status_code == 200
    draft = draft_from(model=account.model, valid_from=datetime.now(UTC), book=PriceSheet.Book.OVERRIDE)
    Rate.objects.filter(sheet=draft, meter="output").update(amount_usd=Decimal("1000"))
    # From an instant after the calls above, and before those below.
    PriceSheet.objects.filter(pk=draft.pk).update(valid_from=datetime.now(UTC))
    published = publish(sheet=draft, actor=None, reason="dearer", now=datetime.now(UTC), correction=True)

    def priced_by_both() -> bool:
        gateway.chat(account)
        newer = books.calls(key_id=account.key.pk, price_sheet=published)
        return len({call.writer_id for call in newer}) == 2

    books.until(priced_by_both, what="both processes use the new price", timeout_s=SEEN_WITHIN_S)
    first, *_, last = books.calls(key_id=account.key.pk)
    assert first.price_sheet_id != published.pk
    assert first.cost_usd == usd(first.input_tokens, 4)
    assert last.price_sheet_id == published.pk
    assert last.cost_usd == usd(last.input_tokens, 4, rate_out="1000")


def test_a_price_dated_ahead_begins_by_itself_in_both_processes_while_calls_run(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-words-4")
    starts = datetime.now(UTC) + timedelta(seconds=3)
    draft = draft_from(model=account.model, valid_from=starts, book=PriceSheet.Book.OVERRIDE)
    Rate.objects.filter(sheet=draft, meter="output").update(amount_usd=Decimal("1000"))
    ahead = publish(sheet=draft, actor=None, reason="dearer from then on", now=datetime.now(UTC))
    held: list[tuple[datetime, datetime, str]] = []

    def ask_on(_: int) -> None:
        while datetime.now(UTC) < starts + timedelta(seconds=SEEN_WITHIN_S):
            began = datetime.now(UTC)
            answered = gateway.chat(account)
            held.append((began, datetime.now(UTC), answered.headers["X-Tollbook-Call-Id"]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask_on, range(4)))
    calls = {str(call.id): call for call in books.calls(key_id=account.key.pk)}
    assert len(calls) == len(held)
    # A call is planned between its client's asking and its answer: those around the start may be either.
    before = [calls[call_id] for _, answered, call_id in held if answered < starts]
    after = [calls[call_id] for asked, _, call_id in held if asked >= starts]
    for call in before:
        assert call.price_sheet_id != ahead.pk
        assert call.cost_usd == usd(call.input_tokens, 4)
    for call in after:
        assert call.price_sheet_id == ahead.pk
        assert call.cost_usd == usd(call.input_tokens, 4, rate_out="1000")
    assert len({call.writer_id for call in before}) == len({call.writer_id for call in after}) == 2


def test_a_call_is_priced_as_when_it_was_held(gateway: Gateway) -> None:
    account = gateway.account()
    assert gateway.chat(account).status_code == 200
    before = len(books.calls(key_id=account.key.pk))
    go_on, arrived = threading.Event(), threading.Event()
    gateway.upstream.script(events([CHAT_FRAMES.opening[0], Signal(arrived), Wait(go_on), *CHAT_FRAMES.whole[1:]]))
    with ThreadPoolExecutor(1) as pool:
        open_call = pool.submit(gateway.chat, account, stream=True)
        assert arrived.wait(10)
        now = datetime.now(UTC)
        draft = draft_from(model=account.model, valid_from=now, book=PriceSheet.Book.OVERRIDE)
        Rate.objects.filter(sheet=draft).update(amount_usd=Decimal("1000"))
        published = publish(sheet=draft, actor=None, reason="dearer", now=now, correction=True)
        books.until(
            lambda: gateway.chat(account) and books.calls(key_id=account.key.pk, price_sheet=published),
            what="the new price is in use", timeout_s=SEEN_WITHIN_S,
        )  # fmt: skip
        go_on.set()
        assert open_call.result().status_code == 200
    held_before = books.calls(key_id=account.key.pk, streamed=True)
    assert [call.cost_usd for call in held_before] == [usd(20, 6)]
    assert len(books.calls(key_id=account.key.pk)) > before


def test_a_revoked_key_is_refused_and_its_stream_is_cut(gateway: Gateway) -> None:
    account = gateway.account()
    assert gateway.chat(account).status_code == 200
    never = threading.Event()
    gateway.upstream.script(events([*CHAT_FRAMES.opening_and_text, Wait(never)]))
    body = msgspec.json.encode(chat_body(account.model.name, stream=True))
    with gateway.open_raw("/v1/chat/completions", body, headers=account.headers) as sock:
        read_until(sock, b"balance today.")
        revoke(key=account.key)
        sock.settimeout(SEEN_WITHIN_S)
        rest = read_until(sock, b"\r\n0\r\n\r\n")
    never.set()
    assert b"key_revoked" in rest
    cut = books.until(
        lambda: books.calls(key_id=account.key.pk, streamed=True), what="the cut stream is in the books"
    )
    assert [(call.outcome, call.error_code) for call in cut] == [("cancelled", "key_revoked")]
    assert cut[0].output_tokens > 0

    def refused_by_both() -> bool:
        return {gateway.chat(account).status_code for _ in range(12)} == {401}

    books.until(refused_by_both, what="both processes refuse the key", timeout_s=SEEN_WITHIN_S)

