"""Forms: split where a boundary says so and nowhere else, changed in one field, and refused where readers disagree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from providers.errors import InvalidRequest
from providers.wire import forms

_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"\\%'), min_size=1, max_size=12)


def part(name: str, content: bytes = b"x", *, more: str = "", header: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}{header}\r\n\r\n'.encode() + content + b"\r\n"


@given(st.lists(st.tuples(_NAMES, st.binary(max_size=64), st.booleans()), min_size=1, max_size=6))
def test_what_a_client_writes_is_read_back_byte_for_byte(written: list[tuple[str, bytes, bool]]) -> None:
    fields = [(name, ("a.bin", data) if is_file else data) for name, data, is_file in written]
    body, kind = encode_multipart_formdata(fields, boundary="b0undary")  # type: ignore[arg-type]  # pairs are taken, too
    form = forms.parse(body)
    assert [(each.name, form.content(each), each.is_file) for each in form.parts] == written
    assert kind.replace("=", '="') + '"' == forms.content_type(body)


def test_one_field_changes_and_no_other_byte_does() -> None:
    odd = part("file", b"\x00\xff\r\n--bb\r\n--", more='; filename="a.wav"', header="\r\nX-Odd:  spaced ")
    body = part("model", b"mine") + odd + b"--b--\r\n"
    assert forms.parse(body).with_field("model", "théirs") == part("model", "théirs".encode()) + odd + b"--b--\r\n"


def test_a_longer_line_that_begins_like_the_boundary_is_content() -> None:
    form = forms.parse(part("a", b"1\r\n--bc\r\n--b-\r\n2") + b"--b--")
    assert form.texts() == {"a": ["1\r\n--bc\r\n--b-\r\n2"]}


def test_equal_forms_are_equal_whatever_their_boundary() -> None:
    one, other, different = (
        encode_multipart_formdata({"a": text, "f": ("n", b"\x00")}, boundary=boundary)[0]
        for boundary, text in (("x1", "1"), ("y22", "1"), ("x1", "2"))
    )
    assert forms.without_boundary(one) == forms.without_boundary(other) != forms.without_boundary(different)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "body"),
        (b"preamble\r\n" + part("a") + b"--b--", "body"),
        (b"--b--\r\n", "body"),
        (part("a"), "body"),
        (part("a") + b"--b", "body"),
        (part("a") + b"--b--\r\n--b--", "body"),
        (part("a").replace(b"\r\n", b"\n") + b"--b--\n", "body"),
        (part("") + b"--b--", "body"),
        (part("a\0") + b"--b--", "body"),
        (part("a", more='; name="b"') + b"--b--", "body"),
        (part("a", more='; filename="b"; filename="c"') + b"--b--", "body"),
        (part("a", header='\r\nContent-Disposition: form-data; name="b"') + b"--b--", "body"),
        (part("a", header="\r\n folded: yes") + b"--b--", "body"),
        (part("a", header="\nX: y") + b"--b--", "body"),
        (part("a", header="\r\nContent-Transfer-Encoding: base64") + b"--b--", "a"),
        (part("a", header="\r\nX: " + "y" * 9000) + b"--b--", "body"),
        (b"--b\r\n\r\nx\r\n--b--", "body"),
        (b"--b\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--b--", "body"),
        (b"--b\r\nContent-Disposition: form-data; name*=utf-8''model\r\n\r\nx\r\n--b--", "body"),
        (part("a") * (forms.MAX_PARTS + 1) + b"--b--", "body"),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        forms.parse(body)
    assert caught.value.param == param


def test_a_field_that_stands_twice_is_no_single_one() -> None:
    texts = forms.parse(part("a") + part("a") + b"--b--").texts()
    with pytest.raises(InvalidRequest, match="2 times"):
        forms.single(texts, "a")
    assert forms.single(texts, "b") == ""


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_refused(data: bytes) -> None:
    for body in (data, b"--b\r\n" + data + b"\r\n--b--"):
        try:
            form = forms.parse(body)
        except InvalidRequest:
            continue
        assert form.parts
