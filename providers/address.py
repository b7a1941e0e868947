"""Which addresses a provider may have: a base URL must not turn the gateway against the network it stands in.

Checked twice: when a base URL is saved or a client is built, and again on what the name resolves to each time a
connection is made, so that a name which changes its address in between gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from providers.errors import ProviderError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds hand credentials to whoever asks, beside the link-local 169.254.169.254: AWS (IPv6), Google (IPv6),
# Alibaba, Oracle, Azure's wire server.
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(ProviderError):
    """The address is not one that may be called. `detail` says why, for an administrator; the message, which a client
    may see, does not name the address."""

    code = "provider_address_refused"

    def __init__(self, detail: str) -> None:
        super().__init__("The address of this provider is not allowed: its administrator must change it.")
        self.detail = detail


def check_base_url(url: str, *, allow_plain_http: bool, allow_private_address: bool) -> None:
    """Raises AddressRefused unless `url` is one a provider may have. A name that does not resolve now passes."""
    parts = _parts(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and allow_plain_http):
        raise AddressRefused(f"The base URL {url!r} must begin with https:// (or allow plain HTTP for this provider).")
    try:
        resolve(host, parts.port or 443, allow_private_address=allow_private_address)
    except OSError:
        return


def _parts(url: str) -> SplitResult:
    if any(character <= " " or character in "\\\x7f" for character in url):
        raise AddressRefused("The base URL holds white space, a control character or a backslash.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefused("The base URL is not a URL.") from None
    if "@" in parts.netloc:
        raise AddressRefused("The base URL holds a user name or password: set the credential instead.")
    if not parts.hostname or port == 0:
        raise AddressRefused(f"The base URL {url!r} has no host, or port 0.")
    if "#" in url or "?" in url:
        raise AddressRefused(f"The base URL {url!r} holds a query or a fragment.")
    return parts


def resolve(host: str, port: int, *, allow_private_address: bool) -> list[str]:
    """The addresses of `host`, each of them allowed. Raises AddressRefused, or OSError when it has none."""
    if host.rstrip(".").lower() in _METADATA_NAMES:
        raise AddressRefused(f"The host {host!r} is a cloud's metadata service.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise AddressRefused(f"The host {host!r} is not a host name.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses:
        refusal = why_refused(text, allow_private_address=allow_private_address)
        if refusal:
            raise AddressRefused(f"The host {host!r} has the address {text}, which is {refusal}.")
    return addresses


def why_refused(address: str, *, allow_private_address: bool) -> str:
    """Why `address` may not be called, in words; empty when it may."""
    ip = _innermost(ipaddress.ip_address(address))
    if ip in _METADATA_ADDRESSES:
        return "a cloud's metadata service"
    if ip.is_link_local:
        return "link-local"
    if ip.is_multicast:
        return "" if allow_private_address else "multicast"
    if not ip.is_global:
        return "" if allow_private_address else "not on the public internet"
    return ""


def _innermost(ip: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 one stands for, through any number of wrappings."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return ip
    inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    if inner is None and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if inner is None and int(ip) >> 32 == 0 and int(ip) > 1:
        inner = ipaddress.IPv4Address(int(ip))
    # A scope (fe80::1%eth0) is part of the object and would defeat the look-up in a set.
    return inner or ipaddress.IPv6Address(int(ip))
