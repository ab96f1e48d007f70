"""What a key ring promises of the values it seals."""

from __future__ import annotations

import os
from itertools import count

import pytest

from servicekit.store.key_ring import KEY_BYTES, KeyRing, SealBroken, key_id_of

OLD, NEW = bytes([1]) * KEY_BYTES, bytes([2]) * KEY_BYTES
VALUE = b"what a plan was answered"
CONTEXT = (b"plan-1", b"digest")


def test_a_sealed_value_opens_in_its_context_and_is_not_there_to_read() -> None:
    """It comes back byte for byte, and no part of it stands in what is stored."""
    ring = KeyRing([OLD], os.urandom)

    key_id, sealed = ring.seal(VALUE, CONTEXT)

    assert ring.open(key_id, sealed, CONTEXT) == VALUE
    assert VALUE[:8] not in sealed
    assert len(sealed) == len(VALUE) + 28


@pytest.mark.parametrize(
    "context",
    [(b"plan-2", b"digest"), (b"plan-1",), (b"plan-1d", b"igest"), (b"plan-1", b"digest", b"")],
)
def test_a_value_opens_in_no_other_context(context: tuple[bytes, ...]) -> None:
    """Rows that change places do not open, also where their parts joined are the same bytes."""
    ring = KeyRing([OLD], os.urandom)
    key_id, sealed = ring.seal(VALUE, CONTEXT)

    with pytest.raises(SealBroken):
        ring.open(key_id, sealed, context)


def test_every_changed_byte_is_noticed() -> None:
    """Nonce, ciphertext and tag: one flipped bit anywhere, and nothing opens."""
    ring = KeyRing([OLD], os.urandom)
    key_id, sealed = ring.seal(VALUE, CONTEXT)

    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            ring.open(key_id, bytes(changed), CONTEXT)


@pytest.mark.parametrize("length", [0, 11, 12, 27])
def test_what_is_too_short_to_be_sealed_is_broken(length: int) -> None:
    """A truncated row is answered like a changed one."""
    ring = KeyRing([OLD], os.urandom)

    with pytest.raises(SealBroken):
        ring.open(ring.current, bytes(length), CONTEXT)


def test_the_last_key_seals_and_all_of_them_open() -> None:
    """After a rotation old values are still told, and new ones are under the new key."""
    before = KeyRing([OLD], os.urandom)
    old_id, old_value = before.seal(VALUE, CONTEXT)
    after = KeyRing([OLD, NEW], os.urandom)

    new_id, new_value = after.seal(VALUE, CONTEXT)

    assert (old_id, new_id) == (key_id_of(OLD), key_id_of(NEW))
    assert after.open(old_id, old_value, CONTEXT) == VALUE
    assert after.open(new_id, new_value, CONTEXT) == VALUE
    with pytest.raises(SealBroken):
        before.open(new_id, new_value, CONTEXT)


def test_a_value_does_not_open_under_the_name_of_another_key() -> None:
    """The key's name is bound too: a row that claims another key is broken."""
    ring = KeyRing([OLD, NEW], os.urandom)
    _, sealed = ring.seal(VALUE, CONTEXT)

    with pytest.raises(SealBroken):
        ring.open(key_id_of(OLD), sealed, CONTEXT)


def test_every_value_has_a_nonce_of_its_own() -> None:
    """The nonce is what entropy gave, asked for once a value."""
    numbers = count()
    ring = KeyRing([OLD], lambda size: next(numbers).to_bytes(size, "big"))

    nonces = [ring.seal(VALUE, CONTEXT)[1][:12] for _ in range(3)]

    assert nonces == [number.to_bytes(12, "big") for number in range(3)]


@pytest.mark.parametrize("keys", [[], [OLD[:-1]], [OLD, NEW + b"x"]])
def test_a_ring_is_made_of_whole_keys(keys: list[bytes]) -> None:
    """No ring is empty, and AES-128 is not reached by a short key."""
    with pytest.raises(ValueError, match="32 bytes"):
        KeyRing(keys, os.urandom)
