"""The shapes of the /api/ answers, for the OpenAPI schema. Answers are built by plain functions beside their views.

Money is a string with twelve decimals; a cost that is not known is null.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


def _money(**options: Any) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=40, decimal_places=12, **options)


class ErrorBodySerializer(serializers.Serializer[Any]):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True, help_text="The parameter that is wrong.")
    code = serializers.CharField(help_text="Stable: invalid_request, invalid_key, not_found, ledger_unavailable...")
    request_id = serializers.CharField()


class ErrorSerializer(serializers.Serializer[Any]):
    error = ErrorBodySerializer()


class NamedSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField(allow_blank=True)


class SumsSerializer(serializers.Serializer[Any]):
    calls = serializers.IntegerField()
    ok_calls = serializers.IntegerField()
    failed_calls = serializers.IntegerField()
    cancelled_calls = serializers.IntegerField()
    cached_calls = serializers.IntegerField(help_text="Of ok_calls, those that the response cache answered.")
    cache_hit_rate = serializers.CharField(help_text="cached_calls / ok_calls, four decimals.")
    unpriced_calls = serializers.IntegerField(help_text="Calls whose cost is unknown: cost_usd does not contain them.")
    input_tokens = serializers.IntegerField(help_text="All, cache reads and writes included.")
    cache_read_tokens = serializers.IntegerField()
    cache_write_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField(help_text="All, reasoning included.")
    reasoning_tokens = serializers.IntegerField()
    cost_usd = _money(allow_null=True, help_text="The known costs, as charged; null where none is known.")
    adjustments_usd = _money(help_text="Later corrections, signed.")
    total_usd = _money(allow_null=True, help_text="Costs and adjustments; null where no cost is known.")


class SpendRowSerializer(SumsSerializer):
    """Holds the fields of the groups asked for, and no others."""

    user_id = serializers.IntegerField(required=False)
    user = serializers.CharField(required=False)
    team_id = serializers.IntegerField(required=False, allow_null=True, help_text="null: calls of no team.")
    team = serializers.CharField(required=False, allow_blank=True)
    key_id = serializers.IntegerField(required=False)
    key = serializers.CharField(required=False)
    model_id = serializers.IntegerField(required=False)
    model = serializers.CharField(required=False)
    provider_id = serializers.IntegerField(required=False)
    provider = serializers.CharField(required=False)
    day = serializers.DateField(required=False)


# `from` is a word of Python's, so the class is made by name.
SpendSerializer = type(
    "SpendSerializer",
    (serializers.Serializer,),
    {
        "__doc__": "Spend in a period, in groups.",
        "from": serializers.DateField(),
        "to": serializers.DateField(help_text="Included."),
        "group_by": serializers.ListField(child=serializers.CharField()),
        "rows": SpendRowSerializer(many=True),
        "totals": SumsSerializer(),
    },
)


class AdjustmentSerializer(serializers.Serializer[Any]):
    delta_usd = _money(help_text="Signed.")
    settles_unknown = serializers.BooleanField(help_text="True: the delta is the whole cost of a call without one.")
    reason = serializers.CharField()
    note = serializers.CharField(allow_blank=True)
    reference = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()


class CallSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    request_id = serializers.UUIDField()
    attempt = serializers.IntegerField()
    user = NamedSerializer()
    team = NamedSerializer(help_text="id null: no team.")
    key = NamedSerializer()
    model = NamedSerializer()
    provider = NamedSerializer()
    tags = serializers.DictField()
    surface = serializers.CharField()
    requested_name = serializers.CharField()
    served_name = serializers.CharField(allow_blank=True)
    upstream_request_id = serializers.CharField(allow_blank=True)
    outcome = serializers.CharField()
    http_status = serializers.IntegerField(allow_null=True)
    error_code = serializers.CharField(allow_blank=True)
    streamed = serializers.BooleanField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField()
    first_token_ms = serializers.IntegerField(allow_null=True)
    duration_ms = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    cache_read_tokens = serializers.IntegerField()
    cache_write_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    meters = serializers.DictField(help_text="Every billed quantity; disjoint.")
    usage_source = serializers.CharField()
    usage_flags = serializers.ListField(child=serializers.CharField())
    service_tier = serializers.CharField(allow_blank=True)
    price_sheet_id = serializers.IntegerField(allow_null=True)
    cost_usd = _money(allow_null=True, help_text="As charged; null: unknown, see unpriced_reason.")
    cost_source = serializers.CharField()
    unpriced_reason = serializers.CharField(allow_blank=True)
    stated_cost_usd = _money(allow_null=True, help_text="What the provider says it cost.")
    adjustments_usd = _money()
    total_usd = _money(allow_null=True, help_text="Cost and adjustments; null while unknown.")


class CallPageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = CallSerializer(many=True)


class LineSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    quantity = serializers.CharField()
    amount_usd = _money()
    per = serializers.IntegerField()
    cost_usd = _money()
    text = serializers.CharField(help_text="24 input tokens x 0.15 per 1,000,000 = 0.0000036")


class SumCheckSerializer(serializers.Serializer[Any]):
    lines_usd = _money(allow_null=True, help_text="The sum of the lines, rated now.")
    cost_usd = _money(allow_null=True)
    equal = serializers.BooleanField(allow_null=True, help_text="null: there is no sheet or no cost to compare.")


class CallDetailSerializer(CallSerializer):
    raw_usage = serializers.DictField(allow_null=True, help_text="The provider's own object.")
    batch_seq = serializers.IntegerField()
    position = serializers.IntegerField()
    lines = LineSerializer(many=True)
    sum_check = SumCheckSerializer()
    adjustments = AdjustmentSerializer(many=True)


class LimitSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    subject = serializers.CharField(help_text="key, user, team, model or everyone.")
    subject_name = serializers.CharField(allow_blank=True)
    metric = serializers.CharField(help_text="usd, tokens, requests or concurrency.")
    period = serializers.CharField()
    action = serializers.CharField(help_text="block, or alert only.")
    amount = _money()
    used = _money()
    held = _money(help_text="Reserved for calls in flight.")
    remaining = _money(help_text="Never below zero.")
    starts_at = serializers.DateTimeField()
    resets_at = serializers.DateTimeField(allow_null=True, help_text="null: never.")


class LimitsSerializer(serializers.Serializer[Any]):
    limits = LimitSerializer(many=True)
