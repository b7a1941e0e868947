"""The answers of the fake provider, in the shape of the wire that was asked, chosen by the model's name.

`POST /v1/chat/completions`, `/v1/messages` and `/v1/embeddings`, `GET /v1/models` and `/v1/models/NAME`; the same in
Google's way (`/v1beta/models/NAME:generateContent`, also behind Vertex's prefix, with `POST /token` before it) and in
Azure's (`/openai/deployments/NAME/chat/completions`, where a name that is not fake is no deployment), and Ollama's
(`/api/chat`, `/api/embed`, `GET /api/tags`, `/api/show`), and OpenAI's images, transcriptions and speech (see `media`).
Any model answers with WORDS, as many as the request's own cap allows, and bills a token a word, and a token for each
4 bytes of the request's body as input. These names behave otherwise:

| model | does |
|---|---|
| fake-NNN | fails with that status (429 and 503 carry Retry-After: 1), bills nothing |
| fake-billed-NNN | the same, but the work is on the invoice |
| fake-flaky-N | fails with 503 the first N times it gets the same body, then answers |
| fake-words-N | answers with N words |
| fake-slow-2s, fake-slow-250ms | waits first |
| fake-paced-50ms | a stream that waits before each word |
| fake-hang | never answers |
| fake-reset | resets the connection, bills nothing |
| fake-cut | stops in the middle of the answer; bills the words that it sent |
| fake-cut-line | the same, within a line of the stream |
| fake-cut-usage | stops after the finish reason and before the usage; bills all |
| fake-stall | sends half of the answer and then nothing more, until its client leaves; bills the words that it sent |
| fake-late-usage-2s | a stream that waits between the finish reason and the usage |
| fake-nousage | leaves the usage out; bills all |
| fake-usage-null, -string, -float, -negative, -nan, -absurd | writes such counts into the usage; bills the true ones |
| fake-trickle | sends a byte every 50 ms |
| fake-malformed | sends broken JSON |
| fake-huge | sends 80 MB |
| fake-html | sends a page |
| fake-gzip | compresses |
| fake-bomb | sends 80 kB that unpack to 80 MB |
| fake-redirect | sends the client elsewhere |
"""

from __future__ import annotations

import gzip
import re
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from providers.errors import InvalidRequest
from providers.wire.forms import is_form
from tests.upstream import counting, media, wires
from tests.upstream.invoice import Invoice
from tests.upstream.steps import Close, Hang, Pause, Reply, Reset, Send, answer, events, trickle

if TYPE_CHECKING:
    from tests.upstream.server import Arrival

WORDS = ("The", "ledger", "balances", "to", "the", "last", "digit", "today")
MODELS = ("fake-model", "fake-other")
TOKEN_PATH, SHOW_PATH = "/token", "/api/show"
HUGE_BYTES = 80 * 1024 * 1024
_DURATION = re.compile(r"(\d+)(ms|s)$")
_FAILING = re.compile(r"fake-(billed-)?([3-5]\d\d)$")
_flaky_seen: Counter[str] = Counter()
_flaky_lock = threading.Lock()


class Asked(Struct, frozen=True):
    """What a request asks for, and what it will be billed."""

    wire: wires.Shape
    model: str
    stream: bool
    with_usage: bool
    words: tuple[str, ...]
    capped: bool
    input_tokens: int
    request_id: str

    def counts(self) -> dict[str, Any] | None:
        """The usage as the answer tells it, possibly bent by the model's name; None where it is left out."""
        if self.model in ("fake-nousage", "fake-cut-usage"):
            return None
        true_counts = self.wire.usage(self.input_tokens, len(self.words))
        return dict.fromkeys(true_counts, _BENT[self.model]) if self.model in _BENT else true_counts


_BENT: dict[str, Any] = {
    "fake-usage-null": None,
    "fake-usage-string": "12",
    "fake-usage-float": 12.5,
    "fake-usage-negative": -7,
    "fake-usage-nan": msgspec.Raw(b"NaN"),
    "fake-usage-absurd": 10**30,
}


def reply_to(arrival: Arrival, invoice: Invoice) -> Reply:
    """The reply to a request that no script was written for."""
    if arrival.method == "GET":
        return _models(arrival.path)
    if arrival.path == TOKEN_PATH:
        return answer(body=b'{"access_token": "fake-token", "expires_in": 3600, "token_type": "Bearer"}')
    if arrival.path == SHOW_PATH:
        return _shown(arrival.body)
    wire = wires.shape_of(arrival.path) or media.shape_of(arrival.path) or counting.shape_of(arrival.path)
    if wire is None:
        return answer(status=404, body=b'{"error": {"message": "no such path", "type": "invalid_request_error"}}')
    try:
        body = media.fields(arrival.body) if is_form(arrival.body) else msgspec.json.decode(arrival.body)
        asked = _asked(wire, body, arrival)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, InvalidRequest):
        return answer(status=400, body=wire.error(400, "the body is not a request"))
    if not wire.serves(asked.model):
        return answer(status=404, body=wire.error(404, f"there is no deployment {asked.model!r}"))
    return _reply(asked, arrival, invoice)


def _asked(wire: wires.Shape, body: dict[str, Any], arrival: Arrival) -> Asked:
    model = wire.model(body, arrival.path)
    many = re.fullmatch(r"fake-words-(\d+)", model)
    words = tuple(WORDS[index % len(WORDS)] for index in range(int(many[1]))) if many else WORDS
    cap = wire.cap(body) or len(words)
    return Asked(
        wire=wire,
        model=model,
        stream=wire.streams(body, arrival.path),
        with_usage=wire.tells_usage(body),
        words=words[:cap],
        capped=cap < len(words),
        input_tokens=-(-len(arrival.body) // 4),
        request_id=f"req_fake_{arrival.number}",
    )


def _reply(asked: Asked, arrival: Arrival, invoice: Invoice) -> Reply:
    status, billed_words = 200, len(asked.words)
    failing = _FAILING.match(asked.model)
    if failing:
        status, billed_words = int(failing[2]), billed_words if failing[1] else -1
    elif asked.model in ("fake-reset", "fake-redirect"):
        status, billed_words = 302, -1
    elif _flaky_now(asked.model, arrival.body):
        status, billed_words = 503, -1
    elif asked.model in ("fake-cut", "fake-cut-line", "fake-stall"):
        billed_words //= 2
    elif not asked.wire.bills:
        billed_words = -1
    invoice.add(
        arrival=arrival.number,
        request_id=asked.request_id,
        path=arrival.path,
        model=asked.model,
        stream=asked.stream,
        status=status,
        billed=billed_words >= 0,
        input_tokens=asked.input_tokens if billed_words >= 0 else 0,
        output_tokens=max(billed_words, 0),
        idempotency_key=arrival.headers.get("idempotency-key", ""),
    )
    if status >= 400:
        return _failure(asked, status)
    return (*_first_wait(asked.model), *_success(asked))


def _failure(asked: Asked, status: int) -> Reply:
    headers = {"X-Request-Id": asked.request_id}
    if status in (429, 503):
        headers["Retry-After"] = "1"
    return answer(status=status, headers=headers, body=asked.wire.error(status, f"the fake provider says {status}"))


def _flaky_now(model: str, body: bytes) -> bool:
    flaky = re.fullmatch(r"fake-flaky-(\d+)", model)
    if not flaky:
        return False
    key = sha256(body).hexdigest()
    with _flaky_lock:
        _flaky_seen[key] += 1
        return _flaky_seen[key] <= int(flaky[1])


def _first_wait(model: str) -> Reply:
    return (Pause(_seconds(model)),) if model.startswith("fake-slow-") else ()


def _seconds(model: str) -> float:
    found = _DURATION.search(model)
    return int(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0


def _success(asked: Asked) -> Reply:
    special = _SPECIAL.get(asked.model)
    if special is not None:
        return special
    headers = {"X-Request-Id": asked.request_id}
    if asked.model == "fake-bomb":
        return answer(body=_bomb(), headers=headers | {"Content-Encoding": "gzip"})
    if asked.stream:
        return _stream(asked, headers)
    body = asked.wire.whole(asked)
    if asked.model == "fake-malformed":
        return answer(body=body[:-5] + b"}}!!", headers=headers)
    if asked.model == "fake-gzip":
        return answer(body=gzip.compress(body), headers=headers | {"Content-Encoding": "gzip"})
    if asked.model == "fake-trickle":
        return trickle(b"".join(step.data for step in answer(body=body) if isinstance(step, Send)), pause_s=0.05)
    if asked.model == "fake-stall":
        return (*answer(body=body, headers=headers, cut_at=len(body) // 2)[:-1], Hang())
    cut = asked.model in ("fake-cut", "fake-cut-line", "fake-cut-usage")
    cut_at = len(body) // 2 if cut else None
    return answer(body=body, headers=headers, content_type=asked.wire.content_type, cut_at=cut_at)


def _stream(asked: Asked, headers: dict[str, str]) -> Reply:
    if asked.model == "fake-malformed":
        return events([b'data: {"id": "broken\n\n', b"data: [DONE]\n\n"], headers=headers)
    frames = list(_kept_frames(asked))
    if asked.model == "fake-stall":
        return events([*frames, Hang()], headers=headers)
    if asked.model.startswith("fake-late-usage-"):
        late = len(frames) - len(list(asked.wire.closing(asked)))
        return events([*frames[:late], Pause(_seconds(asked.model)), *frames[late:]], headers=headers)
    if asked.model == "fake-gzip":
        return events([gzip.compress(b"".join(frames))], headers=headers | {"Content-Encoding": "gzip"})
    if asked.model == "fake-trickle":
        return events([step for byte in b"".join(frames) for step in (bytes([byte]), Pause(0.05))], headers=headers)
    if asked.model.startswith("fake-paced-"):
        return events([step for frame in frames for step in (Pause(_seconds(asked.model)), frame)], headers=headers)
    return events(frames, headers=headers, ends=not asked.model.startswith("fake-cut"))


def _kept_frames(asked: Asked) -> Iterator[bytes]:
    """The frames of the stream, up to where the model's name says that it breaks off."""
    cut = asked.model in ("fake-cut", "fake-cut-line", "fake-stall")
    sent = len(asked.words) // 2 if cut else len(asked.words)
    yield from asked.wire.opening(asked)
    for index in range(sent):
        yield asked.wire.word(asked, index)
    if asked.model == "fake-cut-line":
        yield asked.wire.word(asked, sent)[:-12]
    if cut:
        return
    yield from asked.wire.finish(asked)
    if asked.model != "fake-cut-usage":
        yield from asked.wire.closing(asked)


def _models(path: str) -> Reply:
    """The list of models or one of them, under whichever prefix: in Google's words where its names are in the path."""
    if path.startswith(("/foundation-models", "/inference-profiles")):
        return _bedrock_models(path)
    before, _, name = path.partition("?")[0].partition("/models")
    name = name.strip("/")
    if name and name not in MODELS:
        return answer(status=404, body=wires.CHAT.error(404, f"The model '{name}' does not exist"))
    if before in wires.GOOGLE_PREFIXES:
        field, prefix = wires.GOOGLE_PREFIXES[before]
        models = [{"name": f"{prefix}models/{model}"} for model in MODELS]
        return answer(body=msgspec.json.encode(models[MODELS.index(name)] if name else {field: models}))
    entries = [{"id": model, "object": "model", "created": 0, "owned_by": "fake"} for model in MODELS]
    page = {"object": "list", "data": entries, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    page["models"] = [{"name": model} for model in MODELS]  # Cohere's words
    return answer(body=msgspec.json.encode(entries[MODELS.index(name)] if name else page))


def _shown(body: bytes) -> Reply:
    """One of Ollama's models. The list of them, at `/api/tags`, is the one that every path gets."""
    name = str(msgspec.json.decode(body).get("model"))
    if name not in MODELS:
        return answer(status=404, body=msgspec.json.encode({"error": f"model '{name}' not found"}))
    return answer(body=b'{"details": {"family": "fake"}, "capabilities": ["completion"]}')


def _bedrock_models(path: str) -> Reply:
    """Bedrock's models, and its inference profiles, of which it has none."""
    kind, _, name = path.partition("?")[0].strip("/").partition("/")
    known = MODELS if kind == "foundation-models" else ()
    if name and name not in known:
        return answer(status=404, body=b'{"message": "The model or profile does not exist"}')
    models = [{"modelId": model} for model in known]
    page = {"modelDetails": {"modelId": name}} if name else {"modelSummaries": models, "inferenceProfileSummaries": []}
    return answer(body=msgspec.json.encode(page))


_HUGE_PIECE = b" " * (1024 * 1024)


@cache
def _bomb() -> bytes:
    return gzip.compress(_HUGE_PIECE * (HUGE_BYTES // len(_HUGE_PIECE)))


_SPECIAL: dict[str, Reply] = {
    "fake-hang": (Hang(),),
    "fake-reset": (Reset(),),
    "fake-html": answer(body=b"<html><body>Sign in</body></html>", content_type="text/html; charset=utf-8"),
    "fake-redirect": (*answer(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"}, body=b""), Close()),
    "fake-huge": events([_HUGE_PIECE] * (HUGE_BYTES // len(_HUGE_PIECE)), content_type="application/json"),
}
