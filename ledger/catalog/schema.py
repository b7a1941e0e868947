"""What a catalog file may hold. Field names are those of the tables.

A field that is left out keeps what the database has (or its default, in a new row); rows that a file does not name
are left alone. So a small file can be applied on top of what people manage in the admin.
"""

from __future__ import annotations

from datetime import datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Instant = Annotated[datetime, Meta(tz=True)]
# What the column can hold.
Place = Annotated[int, Meta(ge=0, le=32767)]


class ProviderEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One upstream account. `credential_secret` is stored encrypted, never printed and never exported."""

    name: Name
    adapter: Name
    base_url: str | UnsetType = UNSET
    credential_ref: str | UnsetType = UNSET
    credential_secret: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    allow_plain_http: bool | UnsetType = UNSET
    allow_private_address: bool | UnsetType = UNSET
    timeout_s: float | UnsetType = UNSET
    connect_timeout_s: float | UnsetType = UNSET
    first_byte_timeout_s: float | UnsetType | None = UNSET
    idle_timeout_s: float | UnsetType = UNSET
    stream_timeout_s: float | UnsetType = UNSET
    max_retries: int | UnsetType = UNSET
    disconnect_policy: Literal["cancel", "drain"] | UnsetType = UNSET
    settings: dict[str, Any] | UnsetType = UNSET


class ModelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model. `upstream_name` is `name` unless told; `aliases` are added, or moved here from another model."""

    name: Name
    provider: Name
    upstream_name: Name | UnsetType = UNSET
    aliases: tuple[Name, ...] = ()
    display_name: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    deprecated: bool | UnsetType = UNSET
    capabilities: tuple[str, ...] | UnsetType = UNSET
    context_window: int | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    default_max_output_tokens: int | UnsetType | None = UNSET
    timeout_s: float | UnsetType | None = UNSET


class RouteTargetEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of a route: the lowest priority is tried first; a weight counts for the weighted strategy."""

    model: Name
    priority: Place = 1
    weight: Place = 1
    enabled: bool = True


class RouteEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public name for several models. `targets`, where given, are all that the route has from then on."""

    name: Name
    strategy: Literal["priority", "weighted", "cheapest", "fastest"] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    targets: tuple[RouteTargetEntry, ...] | UnsetType = UNSET


class RateEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`amount_usd` for every `per` units of one meter, under conditions ('' means any)."""

    meter: Name
    amount_usd: Decimal
    per: int = 1_000_000
    above_tokens: int = 0
    tier_inclusive: bool = False
    service_tier: str = ""
    speed: str = ""
    region: str = ""
    variant: str = ""
    weekdays: int = 127
    window_start: time | None = None
    window_end: time | None = None
    minimum: Decimal = Decimal(0)
    quantum: Decimal = Decimal(0)
    zero_reason: str = ""


class PriceEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published price sheet: all rates of one model in one book from an instant on."""

    model: Name
    valid_from: Instant
    book: Literal["contract", "override", "list", "seed"] = "list"
    rates: tuple[RateEntry, ...] = ()
    discontinued: bool = False
    history_unknown: bool = False
    source_url: str = ""
    reason: str = ""


class TeamEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)]


class UserEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user who cannot log in until someone sets a password; super-users are not made by a file."""

    username: Annotated[str, Meta(min_length=1, max_length=150)]
    email: str | UnsetType = UNSET
    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    is_staff: bool | UnsetType = UNSET


class KeyEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key, known by its user and name. Its text is made when it is created, and shown then only."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    user: Name
    team: Name | UnsetType | None = UNSET
    scopes: tuple[Literal["call", "read-spend", "admin"], ...] | UnsetType = UNSET
    allowed_models: tuple[Name, ...] | UnsetType = UNSET
    expires_at: Instant | UnsetType | None = UNSET


class LimitEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit on exactly one subject: `key: USER/NAME`, `user:`, `team:`, `model:` or `everyone: true`."""

    metric: Literal["usd", "tokens", "requests", "concurrency"]
    period: Literal["minute", "hour", "day", "week", "month", "total"]
    amount: Decimal
    key: Name | None = None
    user: Name | None = None
    team: Name | None = None
    model: Name | None = None
    everyone: bool = False
    action: Literal["block", "alert"] = "block"
    mode: Literal["strict", "expected"] | UnsetType = UNSET
    alert_thresholds: tuple[int, ...] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Catalog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file, in the order in which it is applied."""

    providers: tuple[ProviderEntry, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    routes: tuple[RouteEntry, ...] = ()
    prices: tuple[PriceEntry, ...] = ()
    teams: tuple[TeamEntry, ...] = ()
    users: tuple[UserEntry, ...] = ()
    keys: tuple[KeyEntry, ...] = ()
    limits: tuple[LimitEntry, ...] = ()
