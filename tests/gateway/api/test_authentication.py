"""Who is let in, who is not, and what they are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client, override_settings
from django.utils import timezone

from gateway.api import authentication
from gateway.api.authentication import FailedKeys, client_address
from ledger.keys import revoke
from tests import factories
from tests.gateway.api.callers import Person, by_key, by_session, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.urls("gateway.api.urls")]
ENDPOINTS = ["/api/spend/", "/api/calls/", "/api/calls/0190b0c0-0000-7000-8000-000000000001/", "/api/limits/"]


@pytest.fixture(autouse=True)
def _no_failures_yet() -> None:
    authentication.failed_keys.clear()


@pytest.fixture
def person() -> Person:
    return make_person("alice")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_nobody_gets_in_without_a_key_or_a_session(path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 401
    assert answer["www-authenticate"].startswith("Bearer")
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_key", None)
    assert error["request_id"] == answer["x-request-id"]


@pytest.mark.parametrize("path", [path for path in ENDPOINTS if "7000" not in path])
def test_a_key_opens_every_list_by_either_header(person: Person, path: str) -> None:
    assert by_key(person.text).get(path).status_code == 200
    assert Client(headers={"x-api-key": person.text}).get(path).status_code == 200
    assert by_session(person.user).get(path).status_code == 200


@pytest.mark.parametrize("path", ENDPOINTS)
def test_nothing_can_be_written_here(person: Person, path: str) -> None:
    for method in ("post", "put", "patch", "delete"):
        answer = getattr(by_key(person.text), method)(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def _expired(person: Person) -> None:
    person.key.expires_at = timezone.now() - timedelta(seconds=1)
    person.key.save()


def _revoked(person: Person) -> None:
    revoke(key=person.key)


def _inactive(person: Person) -> None:
    person.user.is_active = False
    person.user.save()


@pytest.mark.parametrize("end", [_expired, _revoked, _inactive])
def test_a_key_that_ended_is_refused_at_once(person: Person, end: Any) -> None:
    client = by_key(person.text)
    assert client.get("/api/limits/").status_code == 200
    end(person)
    assert client.get("/api/limits/").status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer sk-1234567890abcdef",
        "Basic dXNlcjpwYXNz",
        "Bearer tb_live_\x00\x00_x",
        "Bearer tb_live_AAAAAAAAAAAA_" + "b" * 40,
        "Bearer " + "x" * 100_000,
        "Bearer tb_live_ümlaut______",
    ],
)
def test_anything_else_is_not_a_key_and_no_session_saves_it(person: Person, authorization: str) -> None:
    client = by_session(person.user)
    answer = client.get("/api/limits/", headers={"authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "This API key is not valid: unknown, revoked or expired."


def test_the_right_id_with_a_wrong_secret_is_refused_in_the_same_words(person: Person) -> None:
    wrong = person.text[:-1] + ("a" if person.text[-1] != "a" else "b")
    answers = [by_key(text).get("/api/limits/") for text in (wrong, "tb_live_AAAAAAAAAAAA_" + "b" * 40)]
    messages = {answer.json()["error"]["message"] for answer in answers}
    assert [answer.status_code for answer in answers] == [401, 401]
    assert len(messages) == 1
    assert wrong not in str(answers[0].content)


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize("how", ["key", "session"])
def test_a_database_that_is_away_is_503_and_never_401(
    person: Person, monkeypatch: pytest.MonkeyPatch, error: type[Exception], how: str
) -> None:
    client = by_key(person.text) if how == "key" else by_session(person.user)

    def refuse(*_: Any, **__: Any) -> None:
        raise error("connection to server at 10.0.0.7 failed: SELECT secret FROM books")

    monkeypatch.setattr("django.db.backends.utils.CursorWrapper.execute", refuse)
    answer = client.get("/api/spend/")
    assert answer.status_code == 503
    assert answer["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "ledger_unavailable"
    assert b"10.0.0.7" not in answer.content
    assert b"SELECT" not in answer.content


def test_a_defect_is_a_500_that_tells_nothing(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(**_: Any) -> None:
        raise RuntimeError("SELECT secret FROM books")

    monkeypatch.setattr("ledger.reports.spend", break_down)
    answer = by_key(person.text).get("/api/spend/", headers={"x-request-id": "req-7"})
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert (error["code"], error["request_id"]) == ("internal_error", "req-7")
    assert b"SELECT" not in answer.content
    assert b"Traceback" not in answer.content


@pytest.mark.parametrize("given", ["x" * 129, "a b", "<script>", "a\nb"])
def test_a_request_id_that_is_not_plain_is_replaced(given: str) -> None:
    assert Client().get("/api/spend/", headers={"x-request-id": given})["x-request-id"] != given


# --- wrong keys, counted --------------------------------------------------------------------------------------


def test_after_twenty_wrong_keys_an_address_is_told_to_wait() -> None:
    client = by_key("tb_live_wrong")
    assert {client.get("/api/limits/").status_code for _ in range(20)} == {401}
    answer = client.get("/api/limits/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_bad_keys")
    assert 1 <= int(answer["retry-after"]) <= 60
    assert client.get("/api/limits/", REMOTE_ADDR="198.51.100.7").status_code == 401


def test_a_good_key_is_not_refused_for_its_neighbours(person: Person) -> None:
    for _ in range(30):
        by_key("tb_live_wrong").get("/api/limits/")
    assert by_key(person.text).get("/api/limits/").status_code == 200


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_window_slides() -> None:
    clock = Clock()
    failed = FailedKeys(limit=2, window_s=60, clock=clock)
    assert failed.record("a") == 0
    clock.now += 50
    assert failed.record("a") == 0
    assert failed.record("a") == 10
    clock.now += 10
    assert failed.record("a") == 0
    assert failed.record("a") == 50


def test_what_is_refused_does_not_prolong_the_wait() -> None:
    clock = Clock()
    failed = FailedKeys(limit=1, window_s=60, clock=clock)
    failed.record("a")
    for _ in range(5):
        clock.now += 10
        assert failed.record("a") > 0
    clock.now += 10
    assert failed.record("a") == 0


def test_it_remembers_a_bounded_number_of_addresses() -> None:
    failed = FailedKeys(max_addresses=100)
    for number in range(1000):
        failed.record(str(number))
    assert len(failed) == 100


def test_the_addresses_of_one_ipv6_network_count_as_one() -> None:
    addresses = {client_address({"REMOTE_ADDR": f"2001:db8:1:2::{number:x}"}) for number in range(9)}
    assert addresses == {"2001:db8:1:2::"}


def test_a_forwarded_address_counts_only_behind_a_trusted_proxy() -> None:
    meta = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.5, 198.51.100.9"}
    assert client_address(meta) == "10.0.0.1"
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        # The last one is the proxy's word; those before it are the client's.
        assert client_address(meta) == "198.51.100.9"
        assert client_address({"REMOTE_ADDR": "10.0.0.1"}) == "10.0.0.1"


def test_a_staff_users_key_without_scope_is_still_a_plain_key() -> None:
    staff = make_person("boss", staff=True)
    other = factories.make_call()
    assert by_key(staff.text).get(f"/api/calls/{other.id}/").status_code == 404
