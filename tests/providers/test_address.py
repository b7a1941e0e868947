from __future__ import annotations

import _socket
import socket

import pytest

from providers.address import AddressRefused, check_base_url, resolve, why_refused


def check(url: str, *, plain: bool = False, private: bool = False) -> None:
    check_base_url(url, allow_plain_http=plain, allow_private_address=private)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names resolve to in a test. Literal addresses are left to the system, which asks nobody about them."""
    known: dict[str, list[str]] = {}

    def look_up(host: str, port: int, *args: object, **kwargs: object) -> object:
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in known[host]]
        return _socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


PUBLIC = "93.184.216.34"


def test_a_public_https_address_passes(names: dict[str, list[str]]) -> None:
    names["api.example.com"] = [PUBLIC]
    check("https://api.example.com/v1")
    check(f"https://{PUBLIC}:8443/v1")


def test_a_name_that_does_not_resolve_yet_passes(names: dict[str, list[str]]) -> None:
    check("https://not-there-yet.example/v1")


def test_plain_http_must_be_meant(names: dict[str, list[str]]) -> None:
    with pytest.raises(AddressRefused) as caught:
        check(f"http://{PUBLIC}/v1")
    assert "https" in caught.value.detail
    check(f"http://{PUBLIC}/v1", plain=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://user@api.example.com",
        "https://user:secret@api.example.com",
        "https://@api.example.com",
        "https://api.example.com#fragment",
        "https://api.example.com/#",
        "https://api.example.com?key=1",
        "https://api.example.com:0",
        "https://api.example.com:99999",
        "https://api.example.com\\@169.254.169.254",
        "https://api.example.com/v1 ",
        "https://api.example.com/\r\nHost: x",
        "https://[::1",
    ],
)
def test_what_is_not_a_plain_base_url_is_refused(url: str, names: dict[str, list[str]]) -> None:
    names["api.example.com"] = [PUBLIC]
    with pytest.raises(AddressRefused):
        check(url, plain=True, private=True)


def test_a_password_in_the_url_is_not_repeated(names: dict[str, list[str]]) -> None:
    with pytest.raises(AddressRefused) as caught:
        check("https://user:hunter2@api.example.com")
    assert "hunter2" not in f"{caught.value}{caught.value.detail}"


PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::7f00:1",
    "2002:7f00:1::",
    "64:ff9b::10.0.0.1",
]
ALWAYS = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
]


@pytest.mark.parametrize("ip", PRIVATE)
def test_private_addresses_must_be_meant(ip: str) -> None:
    assert why_refused(ip, allow_private_address=False)
    assert not why_refused(ip, allow_private_address=True)


@pytest.mark.parametrize("ip", ALWAYS)
def test_link_local_and_metadata_addresses_are_always_refused(ip: str) -> None:
    assert why_refused(ip, allow_private_address=False)
    assert why_refused(ip, allow_private_address=True)


@pytest.mark.parametrize("ip", [PUBLIC, "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::93.184.216.34"])
def test_public_addresses_pass(ip: str) -> None:
    assert not why_refused(ip, allow_private_address=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_each_way_to_write_loopback_is_seen_through(host: str, names: dict[str, list[str]]) -> None:
    with pytest.raises(AddressRefused):
        check(f"https://{host}/v1")


@pytest.mark.parametrize("host", ["metadata.google.internal", "METADATA.google.internal.", "metadata"])
def test_metadata_services_are_refused_by_name(host: str, names: dict[str, list[str]]) -> None:
    with pytest.raises(AddressRefused):
        check(f"https://{host}/v1", plain=True, private=True)


def test_one_private_address_among_public_ones_is_enough(names: dict[str, list[str]]) -> None:
    names["two-faced.example"] = [PUBLIC, "10.0.0.1"]
    with pytest.raises(AddressRefused) as caught:
        check("https://two-faced.example")
    assert "10.0.0.1" in caught.value.detail
    assert "10.0.0.1" not in str(caught.value)


def test_addresses_come_back_once_each(names: dict[str, list[str]]) -> None:
    names["api.example.com"] = [PUBLIC, "93.184.216.35", PUBLIC]
    assert resolve("api.example.com", 443, allow_private_address=False) == [PUBLIC, "93.184.216.35"]
