"""Images: what is admitted and bound, how a request is rewritten, and what each way of answering says was used."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from providers.errors import ContentRefused, InvalidRequest, ProviderError, RateLimited, Unsupported
from providers.sse import Decoder
from providers.unified import Usage
from providers.wire.base import Admitted
from providers.wire.openai_images import EDITS, GENERATIONS, OpenAIImages
from tests.recordings import answer_bytes, cases, exchanges, request_bytes

ASKED: dict[str, Any] = {"model": "m", "prompt": "a ledger"}
TOKENS = {"input_tokens": 10, "output_tokens": 400, "total_tokens": 410}


def admit(**fields: Any) -> Admitted:
    return GENERATIONS.admit(msgspec.json.encode({**ASKED, **fields}))


def used(answer: dict[str, Any], **fields: Any) -> Usage:
    usage, _ = GENERATIONS.read_usage_as_asked(msgspec.json.encode(answer), admitted=admit(**fields))
    return usage


def edit_form(*names: str, **texts: str) -> bytes:
    fields = {"model": "m", "prompt": "green", **texts}
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()]
    file = 'filename="a.png"\r\nContent-Type: image/png\r\n\r\nPNG\r\n'
    parts += [f'--b\r\nContent-Disposition: form-data; name="{name}"; {file}' for name in names]
    return "".join([*parts, "--b--\r\n"]).encode()


# --- requests ---------------------------------------------------------------------------------------------


def test_what_a_request_may_use_at_most() -> None:
    admitted = admit(n=3, quality="low", size="1024x1024", partial_images=2)
    assert (admitted.operation, admitted.n, admitted.fees) == ("images", 3, {"images": 3})
    assert (admitted.max_output_tokens, admitted.variant) == (1_400, "low-1024x1024")


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 8_000),
        ({"quality": "auto", "size": "auto"}, 8_000),
        ({"quality": "high"}, 8_000),
        ({"quality": "never-heard-of"}, 8_000),
        ({"quality": "medium"}, 3_000),
        ({"quality": "max"}, 32_000),
        ({"quality": "high", "size": "3072x2048"}, 32_000),
        ({"quality": "low", "frame_count": 4}, 4_000),
    ],
)
def test_an_image_takes_no_more_tokens_than_its_quality_and_size_allow(fields: dict[str, Any], tokens: int) -> None:
    assert admit(**fields).max_output_tokens == tokens


@pytest.mark.parametrize("exchange", cases(exchanges(where=lambda item: item["api"].startswith("images."))))
def test_no_recorded_image_takes_more_than_its_bound(exchange: dict[str, Any]) -> None:
    wire = EDITS if exchange["api"] == "images.edits" else GENERATIONS
    admitted = wire.admit(request_bytes(exchange))
    told = (exchange.get("expected") or {}).get("usage") or {}
    assert admitted.input_bound is not None
    assert admitted.max_output_tokens is not None
    assert admitted.input_bound >= told.get("input", 0)
    assert admitted.max_output_tokens * admitted.n >= told.get("output", 0)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "$.prompt"),
        ({"prompt": ""}, "$.prompt"),
        ({"model": ""}, "$.model"),
        ({"n": 0}, "$.n"),
        ({"n": "2"}, "$.n"),
        ({"partial_images": 99}, "$.partial_images"),
        ({"stream": "yes"}, "$.stream"),
    ],
)
def test_a_wrong_body_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        admit(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (edit_form(), "image"),
        (edit_form("image", prompt=" "), "prompt"),
        (edit_form("image", n="0"), "n"),
        (edit_form("image", n="one"), "n"),
        (edit_form("image", stream="maybe"), "stream"),
        (msgspec.json.encode(ASKED), "$.images"),
        (msgspec.json.encode({**ASKED, "images": []}), "$.images"),
    ],
)
def test_an_edit_needs_an_image_and_a_prompt(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EDITS.admit(body)
    assert caught.value.param == param


def test_the_images_of_an_edit_are_counted_in_every_shape() -> None:
    image = {"image_url": "data:image/png;base64,AAAA"}
    bodies = [
        edit_form("image[]", "image[]", "mask"),
        msgspec.json.encode({**ASKED, "images": [image, image]}),
        msgspec.json.encode({**ASKED, "image": [image, image]}),
    ]
    for body in bodies:
        admitted = EDITS.admit(body)
        assert (admitted.operation, admitted.fees) == ("image_edits", {"images": 1, "input_images": 2})
        assert admitted.input_bound is not None
        assert admitted.input_bound >= 24_000


def test_only_the_model_of_a_request_changes() -> None:
    assert msgspec.json.decode(GENERATIONS.rewrite(admit(new={"a": 1}, drop_unsupported=True), model="up")) == {
        **ASKED, "model": "up", "new": {"a": 1}
    }  # fmt: skip
    body = edit_form("image", user="u")
    assert EDITS.rewrite(EDITS.admit(body), model="up") == body.replace(b"\r\nm\r\n", b"\r\nup\r\n")


def test_a_form_becomes_the_json_that_a_server_without_forms_takes() -> None:
    wire = OpenAIImages(edits=True, json_edits=True)
    body = msgspec.json.decode(wire.rewrite(wire.admit(edit_form("image", "mask", n="2", stream="true")), model="up"))
    url = {"type": "image_url", "url": "data:image/png;base64,UE5H"}
    assert body == {"model": "up", "prompt": "green", "n": 2, "stream": True, "images": [url], "mask": url}
    as_it_came = msgspec.json.encode({**ASKED, "images": [url]})
    assert msgspec.json.decode(wire.rewrite(wire.admit(as_it_came), model="up"))["images"] == [url]


def test_images_are_never_translated() -> None:
    with pytest.raises(Unsupported):
        GENERATIONS.decode_request(b"{}")


# --- usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exchange", cases(exchanges(status=200, where=lambda item: item["api"].startswith("images.")))
)
def test_recorded_usage_is_exact(exchange: dict[str, Any]) -> None:
    wire = EDITS if exchange["api"] == "images.edits" else GENERATIONS
    usage, _ = wire.read_usage_as_asked(answer_bytes(exchange), admitted=wire.admit(request_bytes(exchange)))
    expected = exchange["expected"]
    told = {"input": usage.totals.get("input", 0), "output": usage.totals.get("output", 0)}
    told |= {
        name: usage.totals[meter]
        for name, meter in (("image_in", "input_image"), ("image_out", "output_image"))
        if meter in usage.totals
    }
    assert told == expected["usage"]
    stated = expected.get("stated_cost_usd")
    assert usage.stated_cost_usd == (Decimal(stated) if stated else None)
    assert (usage.source, usage.flags) == ("reported", ())
    assert usage.counted is not None
    assert usage.counted["images"] == 1


@pytest.mark.parametrize(
    "exchange", cases(exchanges(failed=True, where=lambda item: item["api"].startswith("images.")))
)
def test_recorded_errors_are_the_clients_own(exchange: dict[str, Any]) -> None:
    error = GENERATIONS.decode_error(
        status=exchange["status"], body=answer_bytes(exchange), headers={}, provider=exchange["provider"]
    )
    assert isinstance(error, InvalidRequest)
    assert error.param == exchange["response_body"]["error"]["param"]


@pytest.mark.parametrize(
    ("answer", "asked", "variant"),
    [
        ({"quality": "high", "size": "1024x1536"}, {"quality": "low", "size": "auto"}, "high-1024x1536"),
        ({}, {"quality": "HD", "size": "1024x1792"}, "hd-1024x1792"),
        ({}, {"size": "256x256"}, "standard-256x256"),
        ({}, {}, "standard-1024x1024"),
        ({"quality": "auto", "size": None}, {"resolution": "2k"}, "standard-2k"),
        ({"quality": 7, "size": "x" * 99}, {}, "standard-1024x1024"),
    ],
)
def test_the_variant_is_what_was_made_else_what_was_asked_for(
    answer: dict[str, Any], asked: dict[str, Any], variant: str
) -> None:
    assert used({"data": [{"url": "u"}], **answer}, **asked).variant == variant


def test_a_variant_is_known_before_only_where_nothing_is_left_to_the_provider() -> None:
    assert admit(quality="hd", size="1024x1792").variant == "hd-1024x1792"
    for fields in ({"quality": "high"}, {"size": "256x256"}, {"quality": "auto", "size": "1x1"}):
        assert admit(**fields).variant == ""


def test_cached_input_and_its_images_are_parts_of_the_input() -> None:
    details = {"text_tokens": 2, "image_tokens": 8, "cached_tokens": 5, "cached_tokens_details": {"image_tokens": 4}}
    usage = used({"data": [{}], "usage": {**TOKENS, "input_tokens_details": details}})
    assert usage.totals == {"input": 10, "output": 400, "input_image": 8, "cache_read": 5, "cache_read_image": 4}
    beside = {"cached_tokens": 5, "cached_tokens_details": {"cached_image_tokens": 4, "cached_text_tokens": 1}}
    usage = used({"data": [{}], "usage": {**TOKENS, **beside}})
    assert usage.totals == {"input": 10, "output": 400, "cache_read": 5, "cache_read_image": 4}


@pytest.mark.parametrize(
    "usage", [None, {}, "many", {"input_tokens": -1, "output_tokens": 4}, {"input_tokens": 1}, {"output_tokens": "9"}]
)
def test_without_usable_tokens_the_images_are_what_counts(usage: Any) -> None:
    found = used({"data": [{"url": "u"}, {"b64_json": "x"}, None], "usage": usage})
    assert (found.totals, found.counted, found.source) == ({}, {"images": 2}, "reported")


def test_an_answer_with_nothing_in_it_says_nothing() -> None:
    assert used({"data": []}).source == "none"
    assert used({"created": 1}).counted is None


def test_what_is_billed_apart_is_flagged() -> None:
    assert used({"data": [{}], "svg_usage": {"model": "x"}}).flags == ("unmetered:svg_usage",)


def test_an_error_in_a_200_is_raised() -> None:
    with pytest.raises(ProviderError):
        used({"error": {"message": "no", "code": "moderation_blocked"}})


# --- streams ----------------------------------------------------------------------------------------------


def watch(body: bytes, **fields: Any) -> tuple[list[str], Usage, bool]:
    meter, decoder = GENERATIONS.stream_meter(admitted=admit(stream=True, **fields)), Decoder()
    verdicts = [meter.see(event) for event in (*decoder.feed(body), *decoder.end())]
    return verdicts, meter.usage, meter.complete


def frame(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"


def test_the_completed_image_is_held_until_the_call_is_settled() -> None:
    partial = frame("image_generation.partial_image", b64_json="x")
    completed = frame("image_generation.completed", quality="low", size="1024x1024", usage=TOKENS)
    verdicts, usage, complete = watch(b": hello\n\n" + partial + completed)
    assert (verdicts, complete) == (["forward", "forward", "hold"], True)
    # No detail of the event tells text from images.
    assert (usage.totals, usage.flags) == (
        {"input": 10, "output": 400, "output_image": 400}, ("derived:output_image",),
    )  # fmt: skip
    assert usage.variant == "low-1024x1024"
    assert watch(partial)[2] is False


def test_each_completed_image_adds_its_usage() -> None:
    completed = frame("image_edit.completed", usage={**TOKENS, "output_tokens_details": {"image_tokens": 400}})
    verdicts, usage, _ = watch(completed * 2 + b"data: [DONE]\n\n", n=2)
    assert verdicts == ["forward", "hold", "last"]
    assert usage.totals == {"input": 20, "output": 800, "output_image": 800}
    assert usage.counted == {"images": 2}


@pytest.mark.parametrize(
    ("error", "kind"),
    [({"code": "rate_limit_exceeded"}, RateLimited), ({"code": "content_policy_violation"}, ContentRefused)],
)
def test_an_error_in_a_stream_is_raised(error: dict[str, Any], kind: type[ProviderError]) -> None:
    with pytest.raises(kind):
        watch(frame("error", error={"message": "no", **error}))
