from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.batches import lines
from gateway.batches.lines import BadLine, Fault

CHAT = "/v1/chat/completions"


def raw(custom_id: str = "a", **changes: object) -> bytes:
    return msgspec.json.encode(
        {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m", "n": 1}, **changes}
    )


def written(tmp_path: Path, *content: bytes) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(content))
    return path


def test_the_body_is_kept_as_the_client_wrote_it() -> None:
    body = b'{ "model":"m",  "temperature": 1.0, "new_field": [1e400] }'
    text = b'{"custom_id": "a", "extra": 1, "method": "POST", "url": "/v1/chat/completions", "body": ' + body + b"}\r\n"
    assert lines.read(text, number=3, endpoint=CHAT) == lines.Line(number=3, custom_id="a", model="m", body=body)


def test_a_byte_order_mark_at_the_start_is_not_part_of_the_first_line() -> None:
    assert lines.read(b"\xef\xbb\xbf" + raw(), number=1, endpoint=CHAT).custom_id == "a"
    with pytest.raises(BadLine):
        lines.read(b"\xef\xbb\xbf" + raw(), number=2, endpoint=CHAT)


@pytest.mark.parametrize(("line", "code"), [
    (b"[]", "missing_required_parameter"),
    (b"\xff\xfe", "invalid_json_line"),
    (b'{"a":' * 100_000, "invalid_json_line"),
    (raw(custom_id=""), "invalid_custom_id"),
    (raw(custom_id="x" * 513), "invalid_custom_id"),
    (raw(custom_id=7), "missing_required_parameter"),  # type: ignore[arg-type]
    (raw(method="post"), "invalid_method"),
    (raw(url="/v1/chat/completions/"), "mismatched_url"),
    (raw(body=[]), "invalid_request"),
    (raw(body={"model": 7}), "invalid_request"),
    (raw(body={"model": "m", "stream": True}), "unsupported_parameter"),
])  # fmt: skip
def test_a_line_that_is_no_request_says_why(line: bytes, code: str) -> None:
    with pytest.raises(BadLine) as caught:
        lines.read(line, number=9, endpoint=CHAT)
    assert (caught.value.fault.code, caught.value.fault.line) == (code, 9)


def test_blank_lines_are_passed_over_and_counted_as_lines(tmp_path: Path) -> None:
    path = written(tmp_path, b"", raw("a"), b"  \r", raw("b"), b"")
    assert [number for number, _ in lines.walk(path, max_line_bytes=1000)] == [2, 4]
    assert lines.validate(path, endpoint=CHAT, max_line_bytes=1000) == (2, [])


def test_of_a_line_that_is_too_long_only_the_start_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, raw("a"), b'{"x": "' + b"y" * 300_000 + b'"}', raw("b"))
    assert [(number, min(len(text), 1001)) for number, text in lines.walk(path, max_line_bytes=1000)][1] == (2, 1001)
    total, faults = lines.validate(path, endpoint=CHAT, max_line_bytes=1000)
    assert (total, [(fault.code, fault.line) for fault in faults]) == (2, [("request_too_large", 2)])


def test_the_same_custom_id_twice_names_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, raw("a"), raw("b"), raw("a"))
    _, (fault,) = lines.validate(path, endpoint=CHAT, max_line_bytes=1000)
    assert (fault.code, fault.line) == ("duplicate_custom_id", 3)
    assert "line 1" in fault.message


def test_an_empty_file_and_a_file_of_too_many_lines_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Fault("empty_file", "The file holds no requests.")
    assert lines.validate(written(tmp_path, b"\n"), endpoint=CHAT, max_line_bytes=1000) == (0, [empty])
    monkeypatch.setattr(lines, "MAX_LINES", 3)
    three = [raw(str(number)) for number in range(3)]
    assert lines.validate(written(tmp_path, *three), endpoint=CHAT, max_line_bytes=1000) == (3, [])
    _, (fault,) = lines.validate(written(tmp_path, *three, raw("4")), endpoint=CHAT, max_line_bytes=1000)
    assert fault.code == "too_many_requests"


def test_a_file_of_nothing_but_faults_tells_of_the_first_ones(tmp_path: Path) -> None:
    _, faults = lines.validate(written(tmp_path, *[b"{"] * 500), endpoint=CHAT, max_line_bytes=1000)
    assert [fault.line for fault in faults] == list(range(1, lines.MOST_FAULTS + 1))
