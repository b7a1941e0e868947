"""The shapes of the /api/prices/ answers, for the OpenAPI schema."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


def _money(**options: Any) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=40, decimal_places=12, **options)


class PriceRateSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    amount_usd = _money(help_text="For every `per` units.")
    per = serializers.IntegerField()
    above_tokens = serializers.IntegerField(help_text="Applies when the whole input is above this. 0: base.")
    tier_inclusive = serializers.BooleanField(help_text="True: at above_tokens, too.")
    service_tier = serializers.CharField(allow_blank=True)
    speed = serializers.CharField(allow_blank=True)
    region = serializers.CharField(allow_blank=True)
    variant = serializers.CharField(allow_blank=True)
    weekdays = serializers.IntegerField(help_text="Bit mask, Monday = 1, UTC.")
    window_start = serializers.TimeField(allow_null=True)
    window_end = serializers.TimeField(allow_null=True)
    minimum = serializers.CharField(help_text="Least quantity billed.")
    quantum = serializers.CharField(help_text="Step that quantities are rounded up to; 0: none.")
    zero_reason = serializers.CharField(allow_blank=True)


class PriceSheetSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    model = serializers.CharField()
    provider = serializers.CharField()
    book = serializers.CharField()
    valid_from = serializers.DateTimeField()
    discontinued = serializers.BooleanField()
    history_unknown = serializers.BooleanField()
    source = serializers.CharField()  # type: ignore[assignment]  # a field's own `source` is another thing
    source_url = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    published_at = serializers.DateTimeField()
    rates = PriceRateSerializer(many=True)


class PricesSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField(allow_null=True, help_text="null: the whole history.")
    prices = PriceSheetSerializer(many=True)


class ComparedSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    provider = serializers.CharField()
    price_sheet_id = serializers.IntegerField(allow_null=True)
    cost_usd = _money(allow_null=True, help_text="null: no price for that usage, see unpriced_reason.")
    unpriced_reason = serializers.CharField(allow_blank=True)
    lines = serializers.ListField(child=serializers.CharField())


class ComparisonSerializer(serializers.Serializer[Any]):
    input = serializers.IntegerField()
    output = serializers.IntegerField()
    cache_read = serializers.IntegerField()
    models = ComparedSerializer(many=True)


class EstimateSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    price_sheet_id = serializers.IntegerField(allow_null=True)
    input_tokens_low = serializers.IntegerField()
    input_tokens_high = serializers.IntegerField()
    output_tokens_high = serializers.IntegerField(help_text="The cap times the choices asked for.")
    low_usd = _money(allow_null=True)
    high_usd = _money(allow_null=True)
    unpriced_reason = serializers.CharField(allow_blank=True)
    lines = serializers.ListField(child=serializers.CharField(), help_text="What low_usd is made of.")
