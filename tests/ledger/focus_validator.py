"""FOCUS 1.2 as a checker: columns, types, nulls and allowed values of a file's rows, by the specification's own rules.

https://focus.finops.org/focus-specification/v1-2/ - written apart from the exporter, so that neither excuses the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
}  # fmt: skip
OPTIONAL = {
    "ChargeFrequency", "ConsumedQuantity", "ConsumedUnit", "ContractedUnitPrice", "ListUnitPrice", "PricingCategory",
    "ResourceId", "ResourceName", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId",
    "SubAccountName", "Tags",
}  # fmt: skip
NULLABLE = OPTIONAL | {"ChargeClass", "PricingQuantity", "PricingUnit"}
NUMBERS = {
    "BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "PricingQuantity", "ConsumedQuantity",
    "ContractedUnitPrice", "ListUnitPrice",
}  # fmt: skip
INSTANTS = {"BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"}
ALLOWED = {
    "BillingCurrency": {"USD"},
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"", "One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"AI and Machine Learning"},
}
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
# Null and non-null together: neither of a pair says anything without the other.
_PAIRS = (
    ("ConsumedQuantity", "ConsumedUnit"), ("PricingQuantity", "PricingUnit"), ("SubAccountId", "SubAccountName"),
    ("ResourceId", "ResourceName"),
)  # fmt: skip


def problems(rows: Iterable[Mapping[str, str]], *, columns: Iterable[str]) -> list[str]:
    """What breaks the specification, as texts; [] when nothing does. Values are a CSV's texts, '' for null."""
    header = list(columns)
    found = [f"column {name} is missing" for name in sorted(MANDATORY - set(header))]
    found += [f"column {name} twice" for name in sorted({name for name in header if header.count(name) > 1})]
    strange = [name for name in header if name not in MANDATORY | OPTIONAL and not name.startswith("x_")]
    found += [f"column {name} is neither FOCUS nor x_" for name in strange]
    for number, row in enumerate(rows, start=1):
        found += [f"row {number}: {problem}" for problem in _problems(row, header)]
    return found


def _problems(row: Mapping[str, str], header: list[str]) -> list[str]:
    known = [name for name in header if name in MANDATORY | OPTIONAL]
    found = [f"{name} is null" for name in known if not row[name] and name not in NULLABLE]
    found += [f"{name} {row[name]!r} is no number" for name in known
              if name in NUMBERS and row[name] and not _NUMBER.fullmatch(row[name])]  # fmt: skip
    found += [f"{name} {row[name]!r} is no instant" for name in known
              if name in INSTANTS and not _INSTANT.fullmatch(row[name])]  # fmt: skip
    found += [f"{name} {row[name]!r} is not allowed" for name, allowed in ALLOWED.items()
              if row.get(name, "") not in allowed]  # fmt: skip
    found += [f"{one} without {other}" for one, other in _PAIRS if bool(row.get(one)) != bool(row.get(other))]
    return found or [*_of_periods(row), *_of_usage(row), *_of_json(row)]


def _of_periods(row: Mapping[str, str]) -> list[str]:
    billing = datetime.fromisoformat(row["BillingPeriodStart"]), datetime.fromisoformat(row["BillingPeriodEnd"])
    charge = datetime.fromisoformat(row["ChargePeriodStart"]), datetime.fromisoformat(row["ChargePeriodEnd"])
    found = []
    if not billing[0] <= charge[0] < charge[1] <= billing[1]:
        found.append("the charge period is not within the billing period")
    if charge[1] - charge[0] != timedelta(days=1):
        found.append("the charge period is not a day")
    if billing[0].day != 1 or (billing[1] - timedelta(days=1)).month != billing[0].month:
        found.append("the billing period is not a month")
    return found


def _of_usage(row: Mapping[str, str]) -> list[str]:
    found = []
    usage, correction = row["ChargeCategory"] == "Usage", row["ChargeClass"] == "Correction"
    if usage and not correction and not row["PricingQuantity"]:
        found.append("usage without PricingQuantity")
    if not usage and row["ConsumedQuantity"]:
        found.append("ConsumedQuantity of what is not usage")
    if usage and not correction and any(Decimal(row[name] or 0) < 0 for name in ("BilledCost", "PricingQuantity")):
        found.append("negative usage")
    if row["SkuPriceId"] and not row["SkuId"]:
        found.append("SkuPriceId without SkuId")
    if row["SkuPriceId"] and not (row["ListUnitPrice"] and row["ContractedUnitPrice"]):
        found.append("SkuPriceId without unit prices")
    return [*found, *_of_products(row)]


def _of_products(row: Mapping[str, str]) -> list[str]:
    """A cost is its unit price x the quantity priced, but for what rounding each call at 12 decimals moves."""
    if not row["PricingQuantity"] or row["ChargeClass"] == "Correction":
        return []
    slack = Decimal("0.5e-12") * int(row.get("x_Calls") or 1)
    return [
        f"{cost} is not {price} x PricingQuantity"
        for cost, price in (("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice"))
        if row.get(price) and abs(Decimal(row[price]) * Decimal(row["PricingQuantity"]) - Decimal(row[cost])) > slack
    ]


def _of_json(row: Mapping[str, str]) -> list[str]:
    found = []
    for name in ("Tags", "SkuPriceDetails"):
        if row[name] and not isinstance(json.loads(row[name]), dict):
            found.append(f"{name} is no JSON object")
    if row["SkuPriceDetails"] and any(not key.startswith("x_") for key in json.loads(row["SkuPriceDetails"])):
        found.append("SkuPriceDetails has a key of its own without x_")
    return found
