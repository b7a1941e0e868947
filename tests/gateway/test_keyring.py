"""Keys that this process has not seen, while the database neither answers nor refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from gateway.errors import ApiError
from gateway.keyring import Keyring
from ledger import database, keys


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Connecting takes until the event is set, and fails then."""
    failing = threading.Event()

    def connect(**_: Any) -> Any:
        failing.wait(60)
        raise psycopg.OperationalError("nobody answered")

    monkeypatch.setattr(database, "connect", connect)
    yield failing
    failing.set()


TEXT = f"tb_live_{'a' * 12}_{'b' * 40}"


def refusal(ring: Keyring) -> str:
    with pytest.raises(ApiError) as refused:
        ring.authenticate(TEXT, version=1)
    return refused.value.code


def test_all_who_ask_are_refused_however_long_the_first_one_hangs(nowhere: threading.Event, settings: Any) -> None:
    """Not one after the other: the last of many would wait for minutes."""
    settings.LEDGER_TIMEOUT_S = 0.1
    ring = Keyring()
    with ThreadPoolExecutor(20) as pool:
        codes = {asked.result(30) for asked in [pool.submit(refusal, ring) for _ in range(20)]}
    assert codes == {"ledger_unavailable"}
    assert not nowhere.is_set()
    ring.close()
    assert refusal(ring) == "ledger_unavailable"


def test_a_crowd_with_one_key_is_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(_: Keyring, public_id: str) -> tuple[Any, ...]:
        asked.append(public_id)
        return (1, keys.hashed("b" * 40), 2, None, [], [], None, False, True, False)

    monkeypatch.setattr(Keyring, "_fetch", fetch)
    ring, together = Keyring(), threading.Barrier(8)

    def one(_: int) -> int:
        together.wait(10)
        return ring.authenticate(TEXT, version=1).user_id

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(8))) == {2}
    assert asked == ["a" * 12]
    ring.authenticate(TEXT, version=2)
    assert len(asked) == 2
    ring.close()
