"""GET /v1/models and /v1/models/{name}: what this key may call, in OpenAI's shape, Anthropic's, Cohere's or Google's.

Google's clients ask at /v1beta/models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from gateway import routing
from gateway.api.gemini import take_key
from gateway.api.surface import SurfaceView, authenticate
from gateway.errors import ApiError
from gateway.runtime import runtime
from gateway.snapshot import Snapshot, Target
from ledger.money import format_short
from ledger.rating import Sheet
from providers.wire import anthropic_messages, cohere, gemini, openai_chat
from providers.wire.base import Wire


class Shape(NamedTuple):
    """How a vendor's client reads models: one, and a page of them."""

    wire: Wire
    describe: Callable[[str, Target, Snapshot], dict[str, Any]]
    page: Callable[[list[dict[str, Any]]], dict[str, Any]]


class ModelsView(SurfaceView):
    """The list, or one by `name`. Anthropic's client is known by its anthropic-version header, Cohere's by its name,
    Google's by the header of its key."""

    wire: ClassVar[Wire] = openai_chat.WIRE
    surface = "models"
    http_method_names = ["get", "head", "options"]

    @extend_schema(exclude=True)
    def get(self, request: Request, name: str = "") -> HttpResponse:
        shape = self.shape(request._request.META)
        self.wire = shape.wire  # type: ignore[misc]  # this request's errors, in its client's shape
        current = runtime()
        principal = authenticate(current, request._request.META)
        snapshot = current.snapshot
        targets = routing.callable_names(snapshot=snapshot, principal=principal)
        describe = shape.describe
        if not name:
            return JsonResponse(shape.page([describe(public, target, snapshot) for public, target in targets.items()]))
        if name not in targets:
            raise ApiError("model_not_found", f"There is no model {name[:200]!r} here that this key may call.")
        return JsonResponse(describe(name, targets[name], snapshot))

    def shape(self, meta: dict[str, Any]) -> Shape:
        return _shape(meta)


class GoogleModelsView(ModelsView):
    """The same under /v1beta/, where only Google's clients ask. All models are one page."""

    wire: ClassVar[Wire] = gemini.WIRE

    def shape(self, meta: dict[str, Any]) -> Shape:
        take_key(meta)
        return _GOOGLE


def _page(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": rows}


def _anthropic_page(rows: list[dict[str, Any]]) -> dict[str, Any]:
    first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
    return {**_page(rows), "has_more": False, "first_id": first, "last_id": last}


def _models_page(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Cohere's and Google's."""
    return {"models": rows}


def _for_openai(public: str, target: Target, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": public,
        "object": "model",
        "created": 0,
        "owned_by": target.provider_name,
        "tollbook": _facts(target, snapshot),
    }


def _for_anthropic(public: str, target: Target, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": public,
        "type": "model",
        "display_name": target.name,
        "created_at": "1970-01-01T00:00:00Z",
        "tollbook": _facts(target, snapshot),
    }


def _for_cohere(public: str, target: Target, snapshot: Snapshot) -> dict[str, Any]:
    known = target.capabilities
    endpoints = [word for operation, word in _COHERE_ENDPOINTS if operation in known]
    if not endpoints and target.offers("chat"):
        # A model of which nothing is known is taken to chat.
        endpoints = ["chat"]
    return {
        "name": public,
        "is_deprecated": False,
        "endpoints": endpoints,
        "finetuned": False,
        "context_length": target.context_window,
        "features": sorted(known),
        "tollbook": _facts(target, snapshot),
    }


def _for_google(public: str, target: Target, snapshot: Snapshot) -> dict[str, Any]:
    limits = {"inputTokenLimit": target.context_window, "outputTokenLimit": target.max_output_tokens}
    return {
        "name": f"models/{public}",
        "baseModelId": target.name,
        "version": "",
        "displayName": target.name,
        **{name: limit for name, limit in limits.items() if limit is not None},
        "supportedGenerationMethods": _google_methods(target),
        "tollbook": _facts(target, snapshot),
    }


def _google_methods(target: Target) -> list[str]:
    if "embeddings" in target.capabilities:
        return ["embedContent", "batchEmbedContents"]
    if not target.offers("chat"):
        return []
    counts = target.adapter is not None and target.adapter.capabilities.count_tokens
    return ["generateContent", "streamGenerateContent", *(["countTokens"] if counts else [])]


_COHERE_ENDPOINTS = (("chat", "chat"), ("embeddings", "embed"), ("rerank", "rerank"))


def _facts(target: Target, snapshot: Snapshot) -> dict[str, Any]:
    sheet = snapshot.prices.sheet_at(model_id=target.model_id, at=datetime.now(UTC))
    return {
        "model": target.name,
        "provider": target.provider_name,
        "ready": target.adapter is not None,
        "context_window": target.context_window,
        "max_output_tokens": target.max_output_tokens,
        "capabilities": sorted(target.capabilities),
        "rates": _rates(sheet) if sheet is not None else None,
    }


def _rates(sheet: Sheet) -> list[dict[str, Any]]:
    """The plain rates (no tier, region or variant), with amounts as exact texts."""
    return [
        {
            "meter": rate.meter,
            "amount_usd": format_short(rate.amount_usd),
            "per": rate.per,
            "above_tokens": rate.above_tokens,
        }
        for rate in sheet.rates
        if not (rate.service_tier or rate.speed or rate.region or rate.variant)
    ]


_OPENAI = Shape(openai_chat.WIRE, _for_openai, _page)
_ANTHROPIC = Shape(anthropic_messages.WIRE, _for_anthropic, _anthropic_page)
_COHERE = Shape(cohere.WIRE, _for_cohere, _models_page)
_GOOGLE = Shape(gemini.WIRE, _for_google, _models_page)


def _shape(meta: Mapping[str, Any]) -> Shape:
    if "HTTP_ANTHROPIC_VERSION" in meta:
        return _ANTHROPIC
    if "HTTP_X_GOOG_API_KEY" in meta:
        return _GOOGLE
    return _COHERE if meta.get("HTTP_X_FERN_SDK_NAME") == "cohere" else _OPENAI
