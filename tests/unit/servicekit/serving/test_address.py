"""Addresses, and which of them stay on this machine."""

import pytest

from servicekit.serving.address import Address, AddressRefused, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7403", Address("127.0.0.1", 7403)),
        ("[::1]:0", Address("::1", 0)),
        ("stage3:65535", Address("stage3", 65_535)),
        ("0.0.0.0:1", Address("0.0.0.0", 1)),  # noqa: S104 - parsed, not bound
    ],
)
def test_an_address_is_read_and_written_back(text: str, address: Address) -> None:
    """The text of an address is the text it was read from."""
    assert parse_address(text) == address
    assert address.text == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "7403", ":7403", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1",
        "127.0.0.1:65536", "127.0.0.1:٣", "::1:7403", "[127.0.0.1]:1", "unix:/tmp/socket",
        "dns:///a:1", "http://a:1", "[]:1", "a:1:2",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    """A scheme, a socket, a missing or impossible port."""
    with pytest.raises(AddressRefused, match="host:port is expected"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("LOCALHOST", False),  # noqa: S104
        ("localhost.test", False), ("::ffff:192.0.2.1", False), ("stage3", False),
    ],
)  # fmt: skip
def test_loopback_is_decided_by_the_name_alone(host: str, loopback: bool) -> None:
    """No resolver is asked, so none can make an insecure listener reachable."""
    assert Address(host, 1).is_loopback == loopback
