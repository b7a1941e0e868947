"""docs/errors.md says what gateway/errors.py does."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.errors import CODES

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "errors.md"
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_the_page_lists_every_code_with_its_status() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) == len({code for code, *_ in rows})
    assert {code: int(status) for code, status, *_ in rows} == CODES


def test_the_page_says_for_every_code_what_it_means_and_what_to_do() -> None:
    for code, _, meaning, advice in ROW.findall(PAGE.read_text()):
        assert len(meaning.split()) > 3, code
        assert len(advice.split()) > 1, code
