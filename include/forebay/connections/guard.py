"""Which addresses a check may not reach: those where a machine hands out its own credentials, and those of nobody.

Loopback and private networks are where people's stores and databases are, so they are allowed. Link-local addresses
are where clouds answer any caller with the machine's credentials.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address

_METADATA = {
    ip_address("169.254.169.254"),  # most clouds
    ip_address("fd20:ce::254"),  # Google over IPv6
    ip_address("100.100.100.200"),  # Alibaba
    ip_address("192.0.0.192"),  # Oracle, classic
    ip_address("168.63.129.16"),  # Azure's platform
}
_METADATA_NETWORK = ip_network("fd00:ec2::/32")
"""AWS over IPv6: ::254 is the machine's metadata, ::23 gives a pod its credentials, and others may follow."""
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ip_network("::/96")


def refusal(address: Address) -> str:
    """Why an address may not be reached; empty where it may."""
    for each in (address, *_inside(address)):
        if each in _METADATA or each in _METADATA_NETWORK:
            return f"{address} is where a cloud hands out the machine's own credentials"
        if each.is_link_local:
            return f"{address} is link-local: machines hand out their own credentials on such addresses"
        if each.is_multicast or each.is_unspecified or each == ip_address("255.255.255.255"):
            return f"{address} is not the address of a machine"
    return ""


def _inside(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 one stands for."""
    if isinstance(address, IPv4Address):
        return []
    found: list[Address] = [each for each in (address.ipv4_mapped, address.sixtofour) if each is not None]
    if address.teredo:
        found += address.teredo
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and int(address) > 0xFFFF):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found
