from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.batches.results import Record, Results, encode

BATCH = "batch_" + "0" * 32


def record(number: int, **changes: object) -> Record:
    return Record(**{"number": number, "custom_id": f"c_{number}", "status": 200, "body": b"{}", **changes})  # type: ignore[arg-type]


def reopened(path: Path) -> tuple[list[int], int]:
    with Results(path, batch_id=BATCH) as results:
        return list(results.numbers()), results.count


def test_what_was_appended_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with Results(path, batch_id=BATCH) as results:
        assert list(results.numbers()) == []
        results.append([record(3), record(1)])
        results.append([])
        results.append([record(2)])
        assert results.count == 3
    assert reopened(path) == ([3, 1, 2], 3)
    assert path.stat().st_mode & 0o077 == 0


def test_a_torn_tail_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    first, second = encode(record(1), batch_id=BATCH), encode(record(2), batch_id=BATCH)
    for cut in range(len(second)):
        path = tmp_path / f"cut-{cut}"
        path.write_bytes(first + second[:cut])
        assert reopened(path) == ([1], 1)
        assert path.read_bytes() == first
        with Results(path, batch_id=BATCH) as results:
            list(results.numbers())
            results.append([record(2)])
        assert path.read_bytes() == first + second


def test_an_answer_over_several_lines_becomes_one_line_with_its_numbers_as_they_were() -> None:
    line = encode(record(7, body=b'{\n  "a": 1.10,\r\n  "b": [12345678901234567890]\n}'), batch_id=BATCH)
    assert line.count(b"\n") == 1
    assert b'"body":{"a":1.10,"b":[12345678901234567890]}' in line
    assert msgspec.json.decode(line)["custom_id"] == "c_7"


def test_an_answer_that_is_no_json_is_kept_as_a_text() -> None:
    line = encode(record(7, body=b"<html>\n"), batch_id=BATCH)
    assert msgspec.json.decode(line)["response"]["body"] == "<html>\n"


def test_a_line_that_nobody_was_asked_has_an_error_and_no_response() -> None:
    line = encode(record(7, status=0, code="batch_expired", message="Late."), batch_id=BATCH)
    told = msgspec.json.decode(line)
    assert (told["response"], told["error"]) == (None, {"code": "batch_expired", "message": "Late."})


@pytest.mark.parametrize(("status", "ok"), [(200, True), (204, True), (404, False), (0, False)])
def test_only_a_success_counts_as_one(status: int, ok: bool) -> None:
    assert record(1, status=status).is_ok is ok
