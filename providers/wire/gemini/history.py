"""The messages of a unified request -> `systemInstruction` and `contents`.

- System and developer messages become the one instruction in front, wherever they stood: `contents` knows none.
- The results of one turn's calls stand in one content, as many as there were calls; media that they returned follow
  in a content of their own, because models before generation 3 read none inside a function response.
- A thought signature goes back onto the part it came with, see `parts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    Json,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Request,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.wire.gemini import models, parts
from providers.wire.gemini.names import NAME
from providers.wire.gemini.refusal import Refusal

# Google's own word for calls that were not made by its models, or whose client did not keep the signature.
# https://ai.google.dev/gemini-api/docs/thought-signatures#faqs
_NO_SIGNATURE = "skip_thought_signature_validator"


def contents(request: Request, refusal: Refusal) -> tuple[list[Json], list[Json]]:
    """(parts of the system instruction, contents). Raises Unsupported for what cannot be said."""
    writer = _History(request, refusal)
    for index, message in enumerate(request.messages):
        writer.add(message, f"messages[{index}]")
    writer.close_results()
    if not writer.contents:
        refusal.cannot("messages", "at least one user or assistant message is needed besides the system prompt")
        return [], [{"role": "user", "parts": writer.system or [{"text": ""}]}]
    return writer.system, writer.contents


class _History:
    """The contents so far, and the tool results that wait for the others of their turn."""

    def __init__(self, request: Request, refusal: Refusal) -> None:
        self.system: list[Json] = []
        self.contents: list[Json] = []
        self._refusal = refusal
        self._from_here = request.wire == NAME
        self._signs = models.checks_signatures(request.model) and not self._from_here
        self._names: dict[str, str] = {}
        self._results: list[Json] = []
        self._media: list[Json] = []

    def add(self, message: Message, path: str) -> None:
        # A tool's name on its result only repeats what the call's id says.
        if message.name and message.role != "tool":
            self._refusal.cannot(f"{path}.name", "a message cannot name its author here")
        rest: list[Part] = []
        for index, part in enumerate(message.parts):
            if isinstance(part, ToolResultPart):
                self._add_result(part, message, f"{path}.content[{index}]")
            else:
                rest.append(part)
        if not rest and any(isinstance(part, ToolResultPart) for part in message.parts):
            return
        if message.role in ("system", "developer"):
            self.system += self._parts(rest, path)
            return
        self.close_results()
        said = self._assistant(rest, path) if message.role == "assistant" else self._parts(rest, path)
        if said or self._from_here:
            self.contents.append({"role": "model" if message.role == "assistant" else "user", "parts": said})

    def close_results(self) -> None:
        for waiting in (self._results, self._media):
            if waiting:
                self.contents.append({"role": "user", "parts": list(waiting)})
                waiting.clear()

    # --- tool results -------------------------------------------------------------------------------------

    def _add_result(self, part: ToolResultPart, message: Message, path: str) -> None:
        name = self._names.get(part.id) or message.name
        if not name:
            self._refusal.cannot(path, f"the result {part.id!r} answers no tool call of this conversation")
            name = part.id or "unknown"
        shown = [piece for piece in part.parts if not isinstance(piece, TextPart)]
        media = [value for at, piece in enumerate(shown) for value in self._part(piece, f"{path}.content[{at}]")]
        inside = media if self._from_here else []
        self._results.append(parts.response_part(part, name=name, media=inside))
        if media and not inside:
            self._media += [{"text": f"What the tool call {part.id} returned besides text:"}, *media]

    # --- what a model said --------------------------------------------------------------------------------

    def _assistant(self, said: list[Part], path: str) -> list[Json]:
        """The parts of a model's turn, each signature on the part that it belongs to."""
        signatures = _Signatures(said, in_place=self._from_here)
        values: list[Json] = []
        called = False
        for index, part in enumerate(said):
            if isinstance(part, ReasoningPart) and not part.text and not part.redacted:
                signatures.wait(part.signature)
                continue
            for value in self._part(part, f"{path}.content[{index}]"):
                signature = signatures.next_for(part)
                if isinstance(part, ToolCallPart):
                    # Of parallel calls only the first is signed.
                    signature = signature or (_NO_SIGNATURE if self._signs and not called else "")
                    called = True
                values.append({**value, "thoughtSignature": signature} if signature else value)
        left = signatures.left()
        return [*values, *({"text": "", "thoughtSignature": signature} for signature in left)]

    def _parts(self, said: list[Part], path: str) -> list[Json]:
        return [value for at, part in enumerate(said) for value in self._part(part, f"{path}.content[{at}]")]

    def _part(self, part: Part, path: str) -> Iterator[Json]:
        match part:
            case TextPart() | RefusalPart():
                # An empty text is refused; other wires send one beside tool calls.
                if part.text:
                    yield {"text": part.text}
            case ImagePart():
                if part.detail not in ("", "auto", "high"):
                    self._refusal.cannot(f"{path}.detail", f"detail {part.detail!r} cannot be asked for here")
                yield parts.media_part(part)
            case FilePart():
                yield from self._file(part, path)
            case AudioPart():
                yield parts.audio_part(part)
            case ReasoningPart():
                yield from self._reasoning(part, path)
            case ToolCallPart():
                self._names[part.id] = part.name
                yield parts.call_part(part, arguments(part.arguments))
            case OpaquePart() if part.wire == NAME:
                yield part.value
            case OpaquePart():
                self._refusal.cannot(path, f"a part of the {part.wire} wire has no counterpart here")
            case ToolResultPart():
                return  # gathered before

    def _file(self, part: FilePart, path: str) -> Iterator[Json]:
        """The name of a file is a label for people: the model is told its bytes."""
        for name in part.extra:
            self._refusal.cannot(f"{path}.{name}", "a file has no such field here")
        if part.file_id:
            self._refusal.cannot(f"{path}.file_id", "a file id of another provider means nothing here")
        elif not part.url and not part.data:
            self._refusal.cannot(path, "a file without a URL or data cannot be sent")
        else:
            yield parts.media_part(part)

    def _reasoning(self, part: ReasoningPart, path: str) -> Iterator[Json]:
        if part.redacted:
            self._refusal.cannot(path, "the hidden reasoning of another provider is not accepted back here")
        elif part.text:
            signed = {"thoughtSignature": part.signature} if part.signature else {}
            yield {"text": part.text, "thought": True, **signed}


class _Signatures:
    """Signatures on their way to the parts they belong to.

    A client of another wire may have moved all reasoning in front of what was said. A lone signature is then the one
    of a function call, which Google demands, rather than the one of a text, which it does without.
    """

    def __init__(self, said: list[Part], *, in_place: bool) -> None:
        self._waiting: list[str] = []
        self._in_place = in_place
        self._calls_left = sum(isinstance(part, ToolCallPart) for part in said)

    def wait(self, signature: str) -> None:
        if signature:
            self._waiting.append(signature)

    def next_for(self, part: Part) -> str:
        if isinstance(part, ToolCallPart):
            self._calls_left -= 1
        elif isinstance(part, ReasoningPart) or (
            not self._in_place and self._calls_left and len(self._waiting) < 2
        ):
            return ""
        return self._waiting.pop(0) if self._waiting else ""

    def left(self) -> list[str]:
        return self._waiting


def arguments(text: str) -> Any:
    """The arguments as the object that the wire wants, byte for byte; what is none is kept as text under one key."""
    if not text.strip():
        return {}
    try:
        msgspec.json.decode(text, type=Json)
    except (ValueError, RecursionError):
        return {"INVALID_JSON": text}
    return msgspec.Raw(text.encode())
