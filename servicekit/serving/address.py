"""`host:port`, and whether it stays on this machine.

Deliberately absent: name resolution. Whether a name is loopback is decided by the name, so that no
resolver can make an insecure listener reachable.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

PORT_MAX: Final = 65_535
DNS_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
"""Form of the one name in a server's certificate, matched in full."""


class AddressRefused(ValueError):
    """An address that cannot be used; the text names it and says what is expected."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; port 0 lets the system choose one."""

    host: str
    port: int

    @property
    def text(self) -> str:
        """Return the address as gRPC takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Say whether nothing outside this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def verify_loopback(self) -> None:
        """Refuse an address that is not loopback.

        Raises:
            AddressRefused: the host is not 127.0.0.0/8, ::1 or localhost.
        """
        if not self.is_loopback:
            raise AddressRefused(
                f"{self.text} is not a loopback address: without certificates only 127.0.0.1, ::1 "
                "or localhost is served or called"
            )


def parse_address(text: str) -> Address:
    """Parse `host:port`, with an IPv6 host in brackets.

    Raises:
        AddressRefused: it is anything else, a URI scheme or a socket path included.
    """
    host, separator, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    is_port = port_text.isascii() and port_text.isdecimal() and int(port_text) <= PORT_MAX
    if not separator or not host or not is_port or (":" in host) != bracketed or "/" in host:
        raise AddressRefused(f"{text!r} is not an address: host:port is expected")
    return Address(host, int(port_text))
