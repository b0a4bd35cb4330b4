"""Which IP addresses are public. Pure.

The answers of `ipaddress` differ between Python versions, and in 3.11 it calls 64:ff9b::127.0.0.1 and 2002:7f00:1:: global.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# Source: the IANA registries of special-purpose addresses, without the entries that are marked as globally reachable.
PRIVATE_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
            "168.63.129.16/32",  # Azure's host, as every virtual machine there sees it
        ),
    )
)

# Only 2000::/3 is allocated to hosts: loopback, link-local, unique local, multicast and IPv4-mapped addresses are outside.
ALLOCATED_IPV6 = IPv6Network("2000::/3")
PRIVATE_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, benchmarks, ORCHID
            "2001:db8::/32",
            "2002::/16",  # 6to4: contains an IPv4 address
            "3fff::/20",
        ),
    )
)

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that a translator connects to. DNS64 returns these in networks without IPv4."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether ``address`` belongs to a host on the internet, and to no private network, neighbour or machine of ours."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in PRIVATE_IPV4)
    if address.scope_id:
        return False
    if address in NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in ALLOCATED_IPV6 and not any(address in network for network in PRIVATE_IPV6)
