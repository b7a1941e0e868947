"""What Google's surface does to a path, a query and a stream before and after the relay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.urls import resolve

from gateway.api.gemini import events_alone, json_array, take_key
from providers.errors import InvalidRequest
from providers.wire.gemini.admission import placed

FRAMES = [b'data: {"a": 1}\n\n', b'data: {"b": "\\n"}\r\n\r\n']
COMMENT = b": waiting for the provider\n\n"


@pytest.mark.parametrize(
    ("path", "model", "method"),
    [
        ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash", "generateContent"),
        ("/v1/models/a/b:c:streamGenerateContent", "a/b:c", "streamGenerateContent"),
        ("/v1alpha/models/llama3:latest:countTokens", "llama3:latest", "countTokens"),
    ],
)
def test_a_path_names_the_model_and_the_method(path: str, model: str, method: str) -> None:
    found = resolve(path)
    assert (found.url_name, found.kwargs) == ("gemini", {"model": model, "method": method})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/llama3:latest", "model"),
        ("/v1beta/models/llama3:latest", "google-model"),
        ("/v1beta/models", "google-models"),
        ("/v1beta/files", "google-nothing"),
    ],
)
def test_other_paths_keep_their_own_views(path: str, name: str) -> None:
    assert resolve(path).url_name == name


def test_the_path_wins_over_the_body_and_the_rest_is_untouched() -> None:
    said = placed(b'{"model": "x", "new": 1.50, "stream": 7}', model="m", stream=True)
    assert said == b'{"model":"m","new":1.50,"stream":true}'


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"', b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        placed(body, model="m", stream=False)


def test_a_key_leaves_the_query_for_its_header() -> None:
    meta: dict[str, Any] = {
        "QUERY_STRING": "alt=sse&key=tb_live_secret&x=%2F",
        "RAW_URI": "/v1beta/models/m:generateContent?alt=sse&key=tb_live_secret",
    }
    assert take_key(meta) == {"alt": "sse", "x": "/"}
    assert meta == {
        "QUERY_STRING": "alt=sse&x=%2F",
        "RAW_URI": "/v1beta/models/m:generateContent",
        "HTTP_X_GOOG_API_KEY": "tb_live_secret",
    }


def test_a_header_wins_over_the_query() -> None:
    meta: dict[str, Any] = {"QUERY_STRING": "key=other", "HTTP_X_GOOG_API_KEY": "mine"}
    assert take_key(meta) == {}
    assert (meta["HTTP_X_GOOG_API_KEY"], meta["QUERY_STRING"]) == ("mine", "")
    assert take_key({}) == {}


def test_events_pass_byte_for_byte_and_comments_are_blank_lines() -> None:
    chunks = [COMMENT, FRAMES[0] + b": tollbook call_id=1\n\n" + FRAMES[1]]
    assert list(events_alone(chunks)) == [b"\n", FRAMES[0] + FRAMES[1]]


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        (FRAMES, [{"a": 1}, {"b": "\n"}]),
        ([b"".join(FRAMES), FRAMES[0].rstrip()], [{"a": 1}, {"b": "\n"}, {"a": 1}]),
        ([COMMENT, FRAMES[0], COMMENT], [{"a": 1}]),
        ([], []),
        ([COMMENT], []),
    ],
    ids=["two", "in one chunk", "comments", "none", "only a comment"],
)
def test_without_events_a_stream_is_one_array(chunks: list[bytes], said: list[Any]) -> None:
    assert json.loads(b"".join(json_array(chunks))) == said


@pytest.mark.parametrize("shape", [events_alone, json_array])
def test_each_event_goes_on_as_soon_as_it_is_there(shape: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
    asked: list[int] = []

    def chunks() -> Iterator[bytes]:
        for at, frame in enumerate(FRAMES):
            asked.append(at)
            yield frame

    first = next(shape(chunks()))
    assert b'"a"' in first
    assert asked == [0]
