"""What is logged, in which form, and what never is."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import structlog

from gateway import logs

PLANTED = {
    "our key": "tb_live_AAAAAAAAAAAA_" + "s3cr3t" * 7,
    "openai": "sk-proj-" + "s3cr3t" * 6,
    "anthropic": "sk-ant-api03-" + "s3cr3t" * 6,
    "google": "AIza" + "s3cr3t" * 6,
    "bearer": "Bearer " + "s3cr3t" * 6,
}


class Lines:
    """What was written to stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    @property
    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def only(self) -> dict[str, Any]:
        [line] = self.all()
        return line


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """stderr while the product's own configuration is in force; everything as it was afterwards."""
    root = logging.getLogger()
    names = ("django", "django.server", "django.request", "gunicorn.error", "gunicorn.access", "urllib3")
    loggers = [root, *(logging.getLogger(name) for name in names)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    structlog_before = structlog.get_config()
    logging.config.dictConfig(logs.logging_config("INFO"))
    logs.configure()
    yield Lines(capsys)
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate
        logger.manager._clear_cache()  # type: ignore[attr-defined]  # levels were set past setLevel
    structlog.configure(**structlog_before)


def log_one_call(**changes: Any) -> None:
    call: dict[str, Any] = {
        "call_id": UUID(int=2), "request_id": UUID(int=1), "provider": "openai", "model": "gpt-4", "outcome": "ok",
        "status": 200, "cost_usd": Decimal("6E-2"), "duration_ms": 321,
    }  # fmt: skip
    logs.log_call(**{**call, **changes})


def test_a_call_is_one_line_of_json(lines: Lines) -> None:
    log_one_call()
    line = lines.only()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "call", "level": "info", "logger": "tollbook.call", "call_id": str(UUID(int=2)),
        "request_id": str(UUID(int=1)), "provider": "openai", "model": "gpt-4", "outcome": "ok", "status": 200,
        "cost_usd": "0.06", "duration_ms": 321, "error_code": "",
    }  # fmt: skip


def test_an_unknown_cost_is_null(lines: Lines) -> None:
    log_one_call(cost_usd=None, status=None)
    assert (lines.only()["cost_usd"], lines.only()["status"]) == (None, None)


def test_the_standard_library_speaks_the_same_form(lines: Lines) -> None:
    logging.getLogger("django.request").warning("Not Found: %s", "/x", extra={"status_code": 404, "request": object()})
    line = lines.only()
    assert (line["event"], line["level"], line["logger"]) == ("Not Found: /x", "warning", "django.request")
    assert line["status_code"] == 404


def test_bound_ids_are_on_every_line_within_and_on_none_after(lines: Lines) -> None:
    with logs.bound(request_id="r1", call_id="c1"):
        logging.getLogger("anything").warning("one")
        structlog.stdlib.get_logger("other").warning("two")
    logging.getLogger("anything").warning("three")
    assert [line.get("request_id") for line in lines.all()] == ["r1", "r1", None]
    assert [line.get("call_id") for line in lines.all()] == ["c1", "c1", None]


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    logging.getLogger("anything").debug("quiet")
    structlog.stdlib.get_logger("other").debug("quiet")
    logging.getLogger("urllib3.connectionpool").info("Starting new HTTPS connection")
    assert lines.text == ""


def test_a_stack_trace_is_in_the_line_to_its_end(lines: Lines) -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError("at the bottom")

    try:
        deep(60)
    except ValueError:
        logging.getLogger("anything").exception("it broke")
    trace = lines.only()["exception"]
    assert trace.endswith("ValueError: at the bottom")
    assert trace.count("\n") > 5


@pytest.mark.parametrize("secret", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_secret_never_reaches_the_log(lines: Lines, secret: str) -> None:
    log = logging.getLogger("anything")
    log.warning("refused %s", secret)
    log.warning("refused", extra={"body": {"error": [{"message": f"bad key {secret}"}]}, "raw": secret.encode()})
    log.warning("refused", extra={secret: 1, "nested": {secret: 1}})
    structlog.stdlib.get_logger("other").warning("refused", message=f"key {secret}", parts=[secret, (secret,)])
    try:
        raise RuntimeError(f"upstream said {secret}")
    except RuntimeError:
        log.exception("failed with %s", secret)
    with logs.bound(note=secret):
        log_one_call(error_code="provider_error")
    log_one_call(model=secret, error_code=secret)
    assert len(lines.all()) == 7
    assert "s3cr3t" not in lines.text


@pytest.mark.parametrize(
    "name", ["password", "Authorization", "x-api-key", "HTTP_X_API_KEY", "api_key", "credential_secret", "cookie"]
)
def test_a_field_that_is_a_secret_by_name_is_masked_whatever_it_holds(lines: Lines, name: str) -> None:
    logging.getLogger("anything").warning("sent", extra={"headers": {name: "plain-words", "accept": "text/csv"}})
    assert "plain-words" not in lines.text
    assert lines.only()["headers"]["accept"] == "text/csv"


def test_odd_values_do_not_break_a_line(lines: Lines) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    odd = {"a": cycle, "b": b"\xff", "c": {1: 2}, "d": object(), "e": 2**70}
    logging.getLogger("anything").warning("odd", extra=odd)
    structlog.stdlib.get_logger("other").warning("odd", surrogate="\ud800", nan=float("nan"))
    assert [line["event"] for line in lines.all()] == ["odd", "odd"]
