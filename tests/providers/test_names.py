from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from providers.models import Alias, Model
from tests.factories import make_model


@pytest.mark.django_db
def test_an_alias_cannot_take_the_name_of_a_model() -> None:
    model = make_model(name="gpt-4")

    with pytest.raises(IntegrityError, match="taken by a model"), transaction.atomic():
        Alias.objects.create(name="gpt-4", model=model)


@pytest.mark.django_db
def test_a_model_cannot_take_the_name_of_an_alias() -> None:
    make_model(name="gpt-4", aliases=["gpt-four"])

    with pytest.raises(IntegrityError, match="taken by an alias"), transaction.atomic():
        make_model(name="gpt-four")


@pytest.mark.django_db
def test_a_renamed_model_cannot_take_the_name_of_an_alias() -> None:
    make_model(name="gpt-4", aliases=["gpt-four"])
    other = make_model(name="other")

    with pytest.raises(IntegrityError, match="taken by an alias"), transaction.atomic():
        Model.objects.filter(pk=other.pk).update(name="gpt-four")


@pytest.mark.django_db
def test_a_free_name_is_taken() -> None:
    model = make_model(name="gpt-4")

    Alias.objects.create(name="gpt-4-0613", model=model)

    assert [alias.name for alias in model.aliases.all()] == ["gpt-4-0613"]
