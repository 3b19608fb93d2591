"""Where webhooks may go: public addresses by https, and nothing of our own network."""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from apps.kit.settings import get_settings

LONGEST_URL = 2048

_Address = IPv4Address | IPv6Address
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")
"""NAT64: the last four bytes are the IPv4 address that is reached."""
_NEVER = tuple(
    map(
        ip_network,
        (
            "100.64.0.0/10",  # carrier-grade NAT, and a cloud's metadata at 100.100.100.200
            "168.63.129.16/32",  # a public address by which a cloud's machines reach their host
            "192.0.0.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "2001::/23",  # Teredo and other protocols
            "2001:db8::/32",
            "2002::/16",  # 6to4: leads to the IPv4 address within
            "3fff::/20",
        ),
    )
)


def is_public(address: _Address) -> bool:
    """Whether an address is one of the public Internet's; one that embeds another counts as that one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _TRANSLATED:
            return is_public(IPv4Address(address.packed[-4:]))
        if address not in _GLOBAL_UNICAST:
            return False
    # What is_global says of multicast and some ranges differs between versions of Python.
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NEVER)
    )


@dataclass(frozen=True)
class Destinations:
    """What the settings allow."""

    ports: frozenset[int] = frozenset({443, 8443})
    allow_loopback: bool = False
    """Receivers on this machine, at any port and by plain http too."""

    @classmethod
    def of_settings(cls) -> Self:
        settings = get_settings()
        is_development = settings.environment == "development"
        return cls(frozenset(settings.webhook_ports), is_development and settings.webhook_allow_loopback)

    def check_url(self, url: str) -> None:
        """Require a URL that can be delivered to, as far as it tells by itself; names are not looked up.

        Raises:
            ValueError: what is wrong with it.
        """
        if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or set(url) & set(" \\"):
            raise ValueError(f"must be up to {LONGEST_URL:,} printable ASCII characters without blanks")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("is no URL") from None
        if not host or parts.scheme not in {"http", "https"}:
            raise ValueError("must be a URL such as https://shop.example/webhooks")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not carry a user or a password: the signature tells who sends")
        if parts.fragment:
            raise ValueError("must not have a fragment")
        self._check_place(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))

    def allows(self, address: str, port: int) -> bool:
        """Whether a connection may be made to an address that a name was found to have."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if self.allow_loopback and found.is_loopback:
            return True
        return port in self.ports and is_public(found)

    def _check_place(self, scheme: str, host: str, port: int) -> None:
        address = _literal(host)
        is_loopback = address.is_loopback if address else host.rstrip(".") == "localhost"
        if self.allow_loopback and is_loopback:
            return
        if scheme != "https":
            raise ValueError("must be https")
        if port not in self.ports:
            raise ValueError(f"must have the port {' or '.join(map(str, sorted(self.ports)))}")
        if is_loopback or (address is not None and not is_public(address)):
            raise ValueError("must not lead to a private address")


def _literal(host: str) -> _Address | None:
    """The address that a host is, in any form that a resolver takes for one: `2130706433`, `0177.0.0.1`."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
