from __future__ import annotations

import pytest
from django.test import Client

from tests.factories import make_user


@pytest.fixture
def admin_page(db: None) -> Client:
    """A browser logged in as a super-user."""
    client = Client()
    client.force_login(make_user(username="root", superuser=True))
    return client
