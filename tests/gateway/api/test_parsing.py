"""Bytes and headers of a request: what is read, and what is refused before anything else happens."""

from __future__ import annotations

import gzip
import io
from typing import Any

import pytest
from pytest_django import Settings

from gateway.api import parsing
from gateway.errors import ApiError


def read(body: bytes, **meta: Any) -> bytes:
    return parsing.read_body({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), **meta})


def code_of(body: bytes, **meta: Any) -> str:
    with pytest.raises(ApiError) as caught:
        read(body, **meta)
    return caught.value.code


def test_a_body_is_read_as_it_is() -> None:
    assert read(b'{"a": "\xc3\xa9"}') == b'{"a": "\xc3\xa9"}'


def test_a_packed_body_is_unpacked() -> None:
    assert read(gzip.compress(b"{}"), HTTP_CONTENT_ENCODING="GZIP ") == b"{}"


def test_a_chunked_body_has_no_length() -> None:
    assert read(b"{}", CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked") == b"{}"


@pytest.mark.parametrize("body", [b"", b" \r\n", b"\xff", b'"\xed\xa0\x80"', b'{"a": "\\u0000"}', b'"\x00"'])
def test_what_is_no_text_is_refused(body: bytes) -> None:
    assert code_of(body) == "invalid_request"


@pytest.mark.parametrize("body", [rb'"\\u0000"', rb'"\\\\u0000"', rb'"u0000"', rb'"\u00001"'.replace(b"0000", b"0041")])
def test_what_only_looks_like_a_nul_passes(body: bytes) -> None:
    assert read(body) == body


def test_three_backslashes_before_u0000_are_a_nul_again() -> None:
    assert code_of(rb'"\\\u0000"') == "invalid_request"


def test_bodies_are_bounded_packed_or_not(settings: Settings) -> None:
    settings.MAX_BODY_BYTES = 100
    assert read(b" " * 99 + b"1") == b" " * 99 + b"1"
    assert code_of(b" " * 101) == "request_too_large"
    assert code_of(b" " * 101, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked") == "request_too_large"
    assert code_of(gzip.compress(b" " * 10_000), HTTP_CONTENT_ENCODING="gzip") == "request_too_large"


@pytest.mark.parametrize("meta", [
    {"CONTENT_LENGTH": "9"}, {"CONTENT_LENGTH": "many"},
    {"HTTP_CONTENT_ENCODING": "br"}, {"HTTP_CONTENT_ENCODING": "gzip"},
])  # fmt: skip
def test_headers_that_lie_about_the_body_are_refused(meta: dict[str, str]) -> None:
    assert code_of(b"{}", **meta) == "invalid_request"


@pytest.mark.parametrize("packed", [gzip.compress(b"{}", mtime=0)[:-1], gzip.compress(b"{}", mtime=0) + b"x"])
def test_a_packed_body_must_end_where_it_ends(packed: bytes) -> None:
    assert code_of(packed, HTTP_CONTENT_ENCODING="gzip") == "invalid_request"


def test_tags_are_pairs() -> None:
    assert parsing.tags(" team = search ,env=prod,, note=a=b") == {"team": "search", "env": "prod", "note": "a=b"}


@pytest.mark.parametrize("text", [
    "team", "=x", "a b=c", f"a={'x' * 257}", "a=\x07", ",".join(f"t{n}=1" for n in range(17)),
])  # fmt: skip
def test_other_tags_are_refused_by_name(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsing.tags(text)
    assert caught.value.param == "X-Tollbook-Tags"


@pytest.mark.parametrize(("text", "expected"), [("", None), ("2.5", 2.5), ("3600", 3600.0)])
def test_a_timeout_is_seconds(text: str, expected: float | None) -> None:
    assert parsing.timeout_s(text) == expected


@pytest.mark.parametrize("text", ["0", "-1", "3601", "nan", "inf", "soon"])
def test_another_timeout_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        parsing.timeout_s(text)


@pytest.mark.parametrize(("text", "kept"), [
    ("req-1", "req-1"), ("a b", ""), ("x" * 129, ""), ("a\r\nSet-Cookie: x", ""), ("", ""),
])  # fmt: skip
def test_a_clients_id_is_echoed_only_where_it_is_plain(text: str, kept: str) -> None:
    assert parsing.client_request_id(text) == kept
