"""GET /v1/models and /v1/models/{name}: what this key may call, in OpenAI's shape, or Anthropic's for its clients."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from gateway import routing
from gateway.api.surface import SurfaceView, authenticate
from gateway.errors import ApiError
from gateway.runtime import runtime
from gateway.snapshot import Snapshot, Target
from ledger.money import format_short
from ledger.rating import Sheet
from providers.wire import anthropic_messages, openai_chat
from providers.wire.base import Wire


class ModelsView(SurfaceView):
    """The list, or one by `name`. Anthropic's client is known by its anthropic-version header."""

    wire: ClassVar[Wire] = openai_chat.WIRE
    surface = "models"
    http_method_names = ["get", "head", "options"]

    @extend_schema(exclude=True)
    def get(self, request: Request, name: str = "") -> HttpResponse:
        anthropic = "HTTP_ANTHROPIC_VERSION" in request._request.META
        if anthropic:
            self.wire = anthropic_messages.WIRE  # type: ignore[misc]  # this request's errors, in its client's shape
        current = runtime()
        principal = authenticate(current, request._request.META)
        snapshot = current.snapshot
        targets = routing.callable_names(snapshot=snapshot, principal=principal)
        describe = _for_anthropic if anthropic else _for_openai
        if not name:
            rows = [describe(public, target, snapshot) for public, target in targets.items()]
            page = {"has_more": False, "first_id": _id(rows, 0), "last_id": _id(rows, -1)} if anthropic else {}
            return JsonResponse({"object": "list", "data": rows, **page})
        if name not in targets:
            raise ApiError("model_not_found", f"There is no model {name[:200]!r} here that this key may call.")
        return JsonResponse(describe(name, targets[name], snapshot))


def _id(rows: list[dict[str, Any]], place: int) -> str | None:
    return rows[place]["id"] if rows else None


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
