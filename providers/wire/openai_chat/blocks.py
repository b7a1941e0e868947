"""Content blocks of OpenAI's own shape -> the shapes that a server of another dialect has for them."""

from __future__ import annotations

from providers.unified import Json, ReasoningPart
from providers.wire.openai_chat.dialect import Dialect


def in_dialect(block: Json, dialect: Dialect) -> Json:
    """The block as this server takes it."""
    match block:
        case {"type": "file", "file": dict(file)} if dialect.document_urls:
            return _document(file)
        case {"type": "input_audio", "input_audio": {"data": data}} if dialect.bare_audio:
            return {"type": "input_audio", "input_audio": data}
    return block


def _document(file: Json) -> Json:
    if "file_id" in file:
        return {"type": "file", "file_id": file["file_id"]}
    named = {"document_name": file["filename"]} if file.get("filename") else {}
    return {"type": "document_url", "document_url": file.get("file_data", ""), **named}


def thinking(parts: list[ReasoningPart]) -> list[Json]:
    """Reasoning as blocks of the content; what only its provider can unseal is left out."""
    return [
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": part.text}],
            **({"signature": part.signature} if part.signature else {}),
        }
        for part in parts
        if part.text
    ]
