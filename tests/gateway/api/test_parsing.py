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


def test_a_form_that_can_hold_no_file_is_refused_as_such_and_json_never_is() -> None:
    def read_form(body: bytes) -> bytes:
        meta = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(body))}
        return parsing.read_body_or_form({"wsgi.input": io.BytesIO(body), **meta})

    with pytest.raises(ApiError, match="urlencoded form holds no file") as caught:
        read_form(b"model=m&prompt=hat")
    assert caught.value.param == "Content-Type"
    assert read_form(b' {"model": "m"}') == b' {"model": "m"}'


def test_three_backslashes_before_u0000_are_a_nul_again() -> None:
    assert code_of(rb'"\\\u0000"') == "invalid_request"


@pytest.mark.parametrize(
    "before",
    [
        b"plain text",
        b"many 0, 00, 000 and \\n",
        b"10000 or \\\\u0000",
        b"\\n" + b"x" * 5_000 + b"few 0, 00, 000",
        "\u2014 \\n".encode(),
    ],
)
@pytest.mark.parametrize("copies", [0, 1, 2_000])
def test_a_nul_is_found_wherever_it_stands(before: bytes, copies: int) -> None:
    held = b'{"a":"' + before * copies + b"%b" + before * copies + b'"}'
    assert code_of(held % rb"\u0000") == "invalid_request"
    assert code_of(held % b"\0") == "invalid_request"
    assert parsing.checked(held % rb"\\u0000") == held % rb"\\u0000"
    assert parsing.checked(held % b"u0000") == held % b"u0000"


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
