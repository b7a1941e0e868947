"""Where a provider states another cost than ours."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from ledger import stated_costs
from ledger.models import Call
from tests import factories

pytestmark = pytest.mark.django_db


def test_it_lists_what_is_further_apart_than_rounding() -> None:
    stated = ("0.06", "0.0605", "0.0600001", "0.05", "0.0666", None)
    calls = {text: factories.make_call(stated_cost_usd=text and Decimal(text)) for text in stated}
    unpriced = factories.make_call(
        stated_cost_usd=Decimal(1), cost_usd=None, cost_source="unknown", unpriced_reason="no published price"
    )
    found = set(Call.objects.filter(stated_costs.differs()))
    assert found == {calls["0.05"], calls["0.0666"], unpriced}


def test_tiny_costs_differ_by_more_than_a_share() -> None:
    factories.make_call(cost_usd=Decimal("0.0000002"), stated_cost_usd=Decimal("0.0000001"))
    assert not Call.objects.filter(stated_costs.differs()).exists()
    assert Call.objects.filter(stated_costs.differs(above_usd=Decimal(0))).exists()


def test_the_command_lists_both_costs() -> None:
    call = factories.make_call(stated_cost_usd=Decimal("0.07"))
    out = io.StringIO()
    call_command("stated_costs", stdout=out)
    assert f"{call.pk} {call.model.name}: computed 0.06, stated 0.07 USD" in out.getvalue()
    quiet = io.StringIO()
    call_command("stated_costs", "--above-percent", "20", stdout=quiet)
    assert "0 call(s) differ" in quiet.getvalue()
    with pytest.raises(CommandError):
        call_command("stated_costs", "--above-usd", "NaN")


def test_the_admin_filters_by_it(admin_client: Client) -> None:
    far, near = (factories.make_call(stated_cost_usd=Decimal(text)) for text in ("0.07", "0.06"))
    page = admin_client.get(reverse("admin:ledger_call_changelist"), {"stated": "differs"}).content.decode()
    assert str(far.pk) in page
    assert str(near.pk) not in page
    assert str(near.pk) in admin_client.get(
        reverse("admin:ledger_call_changelist"), {"stated": "any"}
    ).content.decode()


def test_the_index_of_stated_costs_is_on_every_partition() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'call_stated'::regclass UNION ALL "
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'ledger_call'::regclass"
        )
        indexes, partitions = (count for (count,) in cursor.fetchall())
    assert indexes == partitions
