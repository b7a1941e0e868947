"""Unified events -> the stream of response events, as OpenAI's own clients read it.

Every part becomes an item of its own: added, told in pieces, done. The last event holds the whole response, so the
items are kept until then.
"""

from __future__ import annotations

from collections.abc import Iterator

from providers import sse
from providers.unified import (
    NO_USAGE,
    Event,
    Finished,
    Json,
    Part,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    RefusalPart,
    Started,
    Stopped,
    StopReason,
    TextPart,
    ToolCallPart,
)
from providers.wire.jsontext import dumps
from providers.wire.openai_responses.answer import encode_item, ending, head
from providers.wire.openai_responses.parts import encode_citation


class _Item:
    """One item being told: its place, its object as it will be, and what was said of it so far."""

    def __init__(self, *, place: int, part: Part, value: Json) -> None:
        self.place = place
        self.part = part
        self.value = value
        self.text = ""
        self.signature = ""

    @property
    def where(self) -> Json:
        return {"item_id": self.value.get("id", ""), "output_index": self.place}


class StreamWriter:
    """Writes one stream. `model` names the model until a Started event does."""

    def __init__(self, *, model: str) -> None:
        self._model = model
        self._sequence = 0
        self._response: Json = {}
        # The unified index of a part -> its item, while it is open; and all of them in their order.
        self._open: dict[int, _Item] = {}
        self._items: list[_Item] = []
        self._reason: StopReason = "unknown"
        self._ended = False

    def write(self, event: Event) -> bytes:
        """The bytes that `event` completes. Events of a second choice have no place on this wire."""
        return b"".join(self._write(event))

    def finish(self) -> bytes:
        """Nothing follows the response's last event; where none came, it is written now."""
        return b"" if self._ended else b"".join(self._end(Finished(usage=NO_USAGE)))

    def _write(self, event: Event) -> Iterator[bytes]:
        match event:
            case Started():
                yield from self._begin(event)
            case PartStarted(choice=0):
                yield from self._begin(None)
                yield from self._start(event)
            case PartDelta(choice=0):
                yield from self._piece(event)
            case PartStopped(choice=0):
                yield from self._stop(event.index)
            case Stopped(choice=0):
                self._reason = event.reason
            case Finished():
                yield from self._begin(None)
                yield from self._end(event)

    def _begin(self, event: Started | None) -> Iterator[bytes]:
        if self._response:
            return
        started = event or Started(id="", model="")
        self._response = head(id_=started.id, model=started.model or self._model, created=started.created)
        yield self._event("response.created", {"response": self._response})
        yield self._event("response.in_progress", {"response": self._response})

    # --- items ----------------------------------------------------------------------------------------------

    def _start(self, event: PartStarted) -> Iterator[bytes]:
        part = event.part
        value = encode_item(part)
        if value is None:
            return
        item = _Item(place=len(self._items), part=part, value=value)
        self._items.append(item)
        self._open[event.index] = item
        yield self._event("response.output_item.added", {"output_index": item.place, "item": _empty(value)})
        if isinstance(part, TextPart | RefusalPart):
            yield self._event("response.content_part.added", {**item.where, "content_index": 0, "part": _blank(part)})
        elif isinstance(part, ReasoningPart) and part.text:
            yield from self._piece(PartDelta(index=event.index, text=part.text))
        if isinstance(part, TextPart | RefusalPart) and part.text:
            yield from self._piece(PartDelta(index=event.index, text=part.text))
        elif isinstance(part, ToolCallPart) and part.arguments:
            yield from self._piece(PartDelta(index=event.index, text=part.arguments))
        for citation in part.citations if isinstance(part, TextPart) else ():
            yield from self._piece(PartDelta(index=event.index, citation=citation))

    def _piece(self, event: PartDelta) -> Iterator[bytes]:
        item = self._open.get(event.index)
        if item is None:
            return
        item.signature += event.signature
        if event.text:
            yield from self._text(item, event)
        if event.citation is not None and isinstance(item.part, TextPart):
            yield from self._citation(item, event.citation)

    def _text(self, item: _Item, event: PartDelta) -> Iterator[bytes]:
        first = not item.text
        item.text += event.text
        said: Json = {**item.where, "delta": event.text}
        match item.part:
            case TextPart():
                logprobs = (event.logprobs or {}).get("content") or []
                yield self._event("response.output_text.delta", {**said, "content_index": 0, "logprobs": logprobs})
            case RefusalPart():
                yield self._event("response.refusal.delta", {**said, "content_index": 0})
            case ReasoningPart():
                if first:
                    part = {"type": "summary_text", "text": ""}
                    yield self._event(
                        "response.reasoning_summary_part.added", {**item.where, "summary_index": 0, "part": part}
                    )
                yield self._event("response.reasoning_summary_text.delta", {**said, "summary_index": 0})
            case ToolCallPart():
                yield self._event("response.function_call_arguments.delta", said)

    def _citation(self, item: _Item, citation: Json) -> Iterator[bytes]:
        annotation = encode_citation(citation, start=0, end=len(item.text))
        if annotation is None:
            return
        annotations = item.value["content"][0]["annotations"]
        annotations.append(annotation)
        said = {**item.where, "content_index": 0, "annotation_index": len(annotations) - 1, "annotation": annotation}
        yield self._event("response.output_text.annotation.added", said)

    def _stop(self, index: int) -> Iterator[bytes]:
        item = self._open.pop(index, None)
        if item is None:
            return
        match item.part:
            case TextPart() | RefusalPart():
                yield from self._text_done(item)
            case ReasoningPart():
                yield from self._reasoning_done(item)
            case ToolCallPart():
                item.value["arguments"] = item.text or "{}"
                said = {"name": item.part.name, "arguments": item.value["arguments"]}
                yield self._event("response.function_call_arguments.done", {**item.where, **said})
        yield self._event("response.output_item.done", {"output_index": item.place, "item": item.value})

    def _text_done(self, item: _Item) -> Iterator[bytes]:
        content = item.value["content"][0]
        where = {**item.where, "content_index": 0}
        if isinstance(item.part, TextPart):
            content["text"] = item.text
            yield self._event("response.output_text.done", {**where, "text": item.text, "logprobs": []})
        else:
            content["refusal"] = item.text
            yield self._event("response.refusal.done", {**where, "refusal": item.text})
        yield self._event("response.content_part.done", {**where, "part": content})

    def _reasoning_done(self, item: _Item) -> Iterator[bytes]:
        if item.signature:
            item.value["encrypted_content"] = item.value.get("encrypted_content", "") + item.signature
        if not item.text:
            return
        part = {"type": "summary_text", "text": item.text}
        item.value["summary"] = [part]
        where = {**item.where, "summary_index": 0}
        yield self._event("response.reasoning_summary_text.done", {**where, "text": item.text})
        yield self._event("response.reasoning_summary_part.done", {**where, "part": part})

    # --- the end --------------------------------------------------------------------------------------------

    def _end(self, event: Finished) -> Iterator[bytes]:
        for index in list(self._open):
            yield from self._stop(index)
        self._ended = True
        output = [item.value for item in self._items]
        response = {**self._response, **ending(self._reason, event.usage), "output": output}
        yield self._event(f"response.{response['status']}", {"response": response})

    def _event(self, kind: str, said: Json) -> bytes:
        event = {"type": kind, "sequence_number": self._sequence, **said}
        self._sequence += 1
        return sse.encode(event=kind, data=dumps(event))


def _empty(item: Json) -> Json:
    """An item before anything was written into it."""
    blank: Json = {**item}
    if "status" in item:
        blank["status"] = "in_progress"
    kind = item.get("type")
    if kind == "message":
        blank["content"] = []
    elif kind == "function_call":
        blank["arguments"] = ""
    elif kind == "reasoning":
        blank = {"type": kind, "id": item["id"], "summary": []}
    return blank


def _blank(part: TextPart | RefusalPart) -> Json:
    if isinstance(part, RefusalPart):
        return {"type": "refusal", "refusal": ""}
    return {"type": "output_text", "text": "", "annotations": []}
