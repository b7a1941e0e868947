from __future__ import annotations

import pytest

from providers.scrub import MASK, MAX_CHARS, scrub


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-proj-AbC123xyz789. You can find it", "AbC123"),
        ("Incorrect API key provided: <not-a-r****key>. You can find it", "not-a-r"),
        ("Your api key: ****-key is invalid", "****-key"),
        ("refused sk-ant-api03-abcdefgh", "abcdefgh"),
        ("Authorization: Bearer abc.def.ghi", "abc.def"),
        ("header Bearer abcdefghijkl was refused", "abcdefghijkl"),
        ('{"x-api-key": "hunter2hunter2"}', "hunter2"),
        ("key AIzaSyA1234567890abcdef is not valid", "AIzaSy"),
        ("tb_live_k1_s3cr3t was refused", "s3cr3t"),
        ("gsk_abcdefghijkl", "abcdefghijkl"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJzdWIi"),
        ("GET https://host/v1?key=abcdef123&alt=sse", "abcdef123"),
        ("limit of org-Ab3dEf6hIj on tokens", "Ab3dEf6hIj"),
        ("upstream 10.1.2.3:8080 refused", "10.1.2.3"),
        ("upstream 192.168.0.7 refused", "192.168.0.7"),
    ],
)
def test_it_masks_a_secret(text: str, secret: str) -> None:
    scrubbed = scrub(text)
    assert secret not in scrubbed
    assert MASK in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 128000 tokens. However, you requested 200000 tokens.",
        "Invalid API key provided. Ensure your API key is correct and active.",
        "Unsupported value: 'messages[0].role' does not support 'developer' with this model.",
        "max_tokens: 4096 is too large",
        "The model `gpt-4o-mini` does not exist",
        "Unknown parameter: 'user_location_hint'",
    ],
)
def test_it_leaves_plain_words_alone(text: str) -> None:
    assert scrub(text) == text


def test_it_keeps_the_end_of_the_sentence() -> None:
    assert scrub("API key provided: sk-abcdefgh.") == f"API key provided: {MASK}."


def test_it_cuts_after_it_masks() -> None:
    long = scrub("x" * (MAX_CHARS - 10) + " sk-" + "a1" * 200)
    assert len(long) <= MAX_CHARS
    assert "a1a1" not in long


def test_it_drops_control_characters() -> None:
    assert scrub("a\x00b\x1b[31m") == "ab[31m"
