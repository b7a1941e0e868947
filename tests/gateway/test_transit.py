"""An answer on its way: passed through event by event, or read on one wire and written on the other."""

from __future__ import annotations

import msgspec
import pytest

from gateway.transit import PassThrough, Piece, Transit, Translation, encoded, output_bytes, transit
from providers import sse
from providers.embeddings import EmbedAnswer
from providers.errors import StreamInterrupted
from providers.sse import ServerEvent
from providers.unified import Answer, Choice, TextPart, ToolCallPart, Usage
from providers.wire import anthropic_messages, openai_chat, openai_embeddings
from providers.wire.base import Admitted, Verdict, Wire
from tests.live.streams import CHAT_FRAMES, MESSAGES_FRAMES, Frames

CHAT: Wire = openai_chat.WIRE
MESSAGES: Wire = anthropic_messages.WIRE
BOTH = [(CHAT, CHAT_FRAMES), (MESSAGES, MESSAGES_FRAMES)]


def admitted(*, wants_usage: bool = True) -> Admitted:
    return Admitted(model="m", stream=True, fields={}, wants_usage=wants_usage)


def pieces(seen: Transit, frames: list[bytes]) -> list[Piece]:
    decoder = sse.Decoder()
    return [seen.see(event) for frame in frames for event in decoder.feed(frame)]


@pytest.mark.parametrize(("wire", "frames"), BOTH, ids=["chat", "messages"])
def test_the_same_wire_passes_through_and_only_the_last_event_is_last(wire: Wire, frames: Frames) -> None:
    seen = transit(client=wire, provider=wire, admitted=admitted())
    assert isinstance(seen, PassThrough)
    got = pieces(seen, frames.whole)
    assert b"".join(piece.data for piece in got) == b"".join(frames.whole)
    assert [piece.last for piece in got] == [False] * (len(got) - 1) + [True]
    assert (seen.usage.source, seen.usage.totals["input"], seen.usage.totals["output"]) == ("reported", 20, 6)
    assert (seen.output_bytes, seen.model) == (48, "up")


def test_the_usage_event_is_dropped_for_a_client_that_did_not_ask() -> None:
    seen = transit(client=CHAT, provider=CHAT, admitted=admitted(wants_usage=False))
    got = b"".join(piece.data for piece in pieces(seen, CHAT_FRAMES.whole))
    assert got == b"".join([*CHAT_FRAMES.opening_and_text, CHAT_FRAMES.closing[0], CHAT_FRAMES.last])
    assert seen.usage.totals["output"] == 6


@pytest.mark.parametrize(("client", "provider", "frames", "end"), [
    (MESSAGES, CHAT, CHAT_FRAMES, b"message_stop"), (CHAT, MESSAGES, MESSAGES_FRAMES, b"[DONE]"),
], ids=["chat to messages", "messages to chat"])  # fmt: skip
def test_another_wire_is_translated_and_ends_once(client: Wire, provider: Wire, frames: Frames, end: bytes) -> None:
    seen = transit(client=client, provider=provider, admitted=admitted())
    assert isinstance(seen, Translation)
    got = pieces(seen, frames.whole)
    if not got[-1].last:
        got.append(seen.end())
    text = b"".join(piece.data for piece in got)
    assert text.count(b"The books balance today.") == 2
    assert [piece.last for piece in got].count(True) == 1
    assert end in next(piece.data for piece in got if piece.last)
    assert (seen.usage.totals["input"], seen.usage.totals["output"]) == (20, 6)


@pytest.mark.parametrize("client", [CHAT, MESSAGES], ids=["chat", "messages"])
@pytest.mark.parametrize(("provider", "frames"), BOTH, ids=["chat", "messages"])
def test_an_early_end_is_an_interruption_and_what_was_seen_is_kept(
    client: Wire, provider: Wire, frames: Frames
) -> None:
    seen = transit(client=client, provider=provider, admitted=admitted())
    pieces(seen, frames.opening_and_text)
    with pytest.raises(StreamInterrupted):
        seen.end()
    assert seen.usage.source in ("none", "partial")
    assert seen.output_bytes == 48


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        (CHAT, Answer(id="a1", model="", choices=(Choice(parts=(TextPart("Hi"),)),))),
        (openai_embeddings.WIRE, EmbedAnswer(id="a1", model="", vectors=((0.5,),))),
    ],
    ids=["chat", "embeddings"],
)
def test_an_answer_that_names_no_model_gets_the_name_that_was_asked_for(wire: Wire, answer: Answer) -> None:
    assert msgspec.json.decode(encoded(answer, wire=wire, admitted=admitted()))["model"] == "m"


def test_everything_a_model_wrote_is_counted_in_bytes() -> None:
    parts = (TextPart(text="\u00e9\u00e9"), ToolCallPart(id="c", name="f", arguments='{"a":1}'))
    answer = Answer(id="a", model="m", choices=(Choice(parts=parts, stop_reason="stop"),) * 2)
    assert output_bytes(answer) == 22


class _Scripted:
    """A meter that says what it was told to say."""

    usage, model, output_bytes = Usage(), "", 0

    def __init__(self, *verdicts: Verdict) -> None:
        self._verdicts = iter(verdicts)
        self.complete = True

    def see(self, event: ServerEvent) -> Verdict:
        return next(self._verdicts)


def test_what_is_held_goes_with_what_comes_next_or_with_the_end() -> None:
    events = [ServerEvent(event="", data=b"", raw=raw) for raw in (b"a", b"b", b"c", b"d")]
    passing = PassThrough(_Scripted("forward", "hold", "hold", "last"))
    assert [passing.see(event) for event in events] == [
        Piece(b"a", False), Piece(b"", False), Piece(b"", False), Piece(b"bcd", True)
    ]  # fmt: skip
    ended = PassThrough(_Scripted("hold", "forward", "hold"))
    assert [ended.see(event).data for event in events[:3]] == [b"", b"ab", b""]
    assert ended.end() == Piece(b"c", True)
