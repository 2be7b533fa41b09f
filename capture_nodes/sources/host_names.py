"""The names and addresses under which other machines may reach this one."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def host_names() -> tuple[str, ...]:
    """`localhost`, the host's name, and that name in the local network (mDNS)."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return tuple(dict.fromkeys(("localhost", name, short, f"{short}.local")))


def host_addresses() -> tuple[Address, ...]:
    """Addresses of all interfaces, loopback first; link-local ones of IPv6 are left out."""
    found: list[Address] = [ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            # An interface without an IPv4 address says so with an error.
            with contextlib.suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                found.append(ipaddress.IPv4Address(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24]))
    with contextlib.suppress(OSError):
        for line in _IPV6_ADDRESSES.read_text().splitlines():
            found.append(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
    return tuple(dict.fromkeys(address for address in found if not address.is_link_local))
