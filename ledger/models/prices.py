"""What things cost: dated price sheets and their rates. A published sheet is frozen (by trigger)."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from ledger.models.amounts import are_numbers
from providers.history import kept
from providers.models import Model


@kept()
class PriceSheet(models.Model):
    """All rates of one model, in one book, from one instant on, until the book's next sheet of that model begins."""

    class Book(models.TextChoices):
        CONTRACT = "contract", "contract"
        OVERRIDE = "override", "override"
        LIST = "list", "list"
        SEED = "seed", "seed"

    class Status(models.TextChoices):
        DRAFT = "draft", "draft"
        PUBLISHED = "published", "published"

    class Source(models.TextChoices):
        SEED = "seed", "seed table"
        GENAI_PRICES = "genai-prices", "genai-prices"
        ADMIN = "admin", "admin"
        FILE = "file", "file"
        INVOICE = "invoice", "invoice"

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="price_sheets")
    book = models.CharField(max_length=8, choices=Book.choices, default=Book.OVERRIDE)
    valid_from = models.DateTimeField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.DRAFT, editable=False)
    discontinued = models.BooleanField(
        default=False, help_text="Ends the book's earlier sheets for this model; has no rates of its own."
    )
    history_unknown = models.BooleanField(default=False, help_text="The true first day of these prices is not known.")
    source = models.CharField(max_length=12, choices=Source.choices, default=Source.ADMIN)
    source_url = models.URLField(max_length=500, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    is_correction = models.BooleanField(default=False, help_text="Published for a time already past.")
    content_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    published_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["model", "-valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "book", "valid_from"],
                condition=Q(status="published"),
                name="pricesheet_one_published_at_an_instant",
                violation_error_message="This book already has a published sheet for this model from that instant.",
            ),
            models.CheckConstraint(
                condition=Q(book__in=["contract", "override", "list", "seed"]), name="pricesheet_book_known"
            ),
            models.CheckConstraint(condition=Q(status__in=["draft", "published"]), name="pricesheet_status_known"),
            models.CheckConstraint(
                condition=Q(source__in=["seed", "genai-prices", "admin", "file", "invoice"]),
                name="pricesheet_source_known",
            ),
            models.CheckConstraint(
                condition=Q(status="draft") | Q(published_at__isnull=False), name="pricesheet_published_has_time"
            ),
            models.CheckConstraint(
                condition=Q(status="draft") | Q(is_correction=True) | Q(valid_from__gte=F("published_at"))
                | Q(source__in=["seed", "genai-prices", "file"]),
                name="pricesheet_past_start_is_a_correction",
                violation_error_message="A sheet that begins in the past is a correction: mark it as one.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.book} from {self.valid_from:%Y-%m-%d %H:%M}"


@kept()
class Rate(models.Model):
    """The price of one meter on a sheet: `amount_usd` for every `per` units, under conditions ('' means any)."""

    sheet = models.ForeignKey(PriceSheet, on_delete=models.CASCADE, related_name="rates")
    meter = models.CharField(max_length=32, help_text="A code of the meter vocabulary: input, output, cache_read...")
    amount_usd = models.DecimalField(max_digits=24, decimal_places=12)
    per = models.PositiveIntegerField(default=1_000_000)
    above_tokens = models.PositiveIntegerField(
        default=0, help_text="Applies when the request's whole input is above this many tokens (0: base tier)."
    )
    tier_inclusive = models.BooleanField(default=False, help_text="The tier begins AT above_tokens, not above it.")
    service_tier = models.CharField(max_length=32, blank=True)
    speed = models.CharField(max_length=32, blank=True)
    region = models.CharField(max_length=64, blank=True)
    variant = models.CharField(max_length=64, blank=True)
    weekdays = models.PositiveSmallIntegerField(default=127, help_text="Bit mask, Monday = 1, UTC. 127: every day.")
    window_start = models.TimeField(null=True, blank=True, help_text="UTC; empty: all day.")
    window_end = models.TimeField(null=True, blank=True)
    minimum = models.DecimalField(max_digits=18, decimal_places=6, default=0, help_text="Least quantity billed.")
    quantum = models.DecimalField(
        max_digits=18, decimal_places=6, default=0, help_text="Quantities are rounded up to multiples; 0: not rounded."
    )
    zero_reason = models.CharField(max_length=200, blank=True, help_text="Why a zero amount is free.")

    class Meta:
        ordering = ["sheet", "meter", "above_tokens"]
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "sheet", "meter", "above_tokens", "service_tier", "speed", "region", "variant", "weekdays",
                    "window_start",
                ],
                nulls_distinct=False,
                name="rate_conditions_once",
                violation_error_message="This sheet already has a rate for this meter under these conditions.",
            ),
            models.CheckConstraint(
                condition=Q(amount_usd__gte=0),
                name="rate_amount_not_negative",
                violation_error_message="A rate cannot be negative.",
            ),
            models.CheckConstraint(
                condition=Q(amount_usd__gt=0) | ~Q(zero_reason=""),
                name="rate_zero_has_reason",
                violation_error_message="A zero rate needs a reason (free because ...).",
            ),
            models.CheckConstraint(
                condition=Q(per__in=[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]),
                name="rate_per_power_of_ten",
                violation_error_message="A rate is per 1, 10, 100 ... or 1,000,000 units, so that costs are exact.",
            ),
            models.CheckConstraint(
                condition=Q(weekdays__gte=1) & Q(weekdays__lte=127), name="rate_weekdays_mask"
            ),
            models.CheckConstraint(
                condition=Q(window_start__isnull=True, window_end__isnull=True)
                | Q(window_start__isnull=False, window_end__isnull=False),
                name="rate_window_whole",
            ),
            models.CheckConstraint(
                condition=Q(minimum__gte=0) & Q(quantum__gte=0), name="rate_quantities_not_negative"
            ),
            are_numbers("amount_usd", "minimum", "quantum", name="rate_amounts_are_numbers"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} {self.amount_usd} per {self.per}"
