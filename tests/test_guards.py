"""The guards of tests/conftest.py: nothing leaves this machine, and tests with real transactions start clean."""

from __future__ import annotations

import socket

import pytest
from django.db import Error, connection, transaction

from ledger.models import ApiKey, SnapshotVersion
from tests.conftest import NetworkForbidden
from tests.factories import make_key, make_sheet


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_no_connection_leaves_this_machine(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(NetworkForbidden):
        client.connect((host, 443))


def test_no_datagram_leaves_this_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, pytest.raises(NetworkForbidden):
        client.sendto(b"x", ("192.0.2.1", 53))


def test_no_name_is_looked_up() -> None:
    with pytest.raises(NetworkForbidden):
        socket.create_connection(("example.com", 443))


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(b"x")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_with_real_transactions_begins_empty_and_with_its_triggers(turn: int) -> None:
    assert not ApiKey.objects.exists()
    assert SnapshotVersion.objects.exists()
    key = make_key()
    make_sheet()

    with pytest.raises(Error, match="never deleted"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE ledger_apikey CASCADE")

    assert ApiKey.objects.get() == key
