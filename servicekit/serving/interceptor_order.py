"""The order of the door's interceptors, as a property that is checked when a server is built.

Deliberately absent: trust in the order in which somebody happened to write a list.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import grpc

FIRST: Final = "shield"


class OrderError(Exception):
    """The interceptors stand in an order that would skip a question."""


class OrderedInterceptor(grpc.ServerInterceptor):
    """An interceptor that says by name what must already have happened.

    `after` must be present and earlier; `after_if_present` must be earlier when present.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    after_if_present: ClassVar[tuple[str, ...]] = ()


def assert_order(chain: Sequence[OrderedInterceptor]) -> None:
    """Refuse a chain in which a predecessor is missing, late, or doubled.

    Raises:
        OrderError: with the name of the interceptor and of its predecessor.
    """
    names = [interceptor.name for interceptor in chain]
    if not names or names[0] != FIRST:
        message = "the first interceptor must be the shield"
        raise OrderError(message)
    for position, interceptor in enumerate(chain):
        if names.count(interceptor.name) > 1:
            message = f"{interceptor.name} appears more than once"
            raise OrderError(message)
        earlier = names[:position]
        for predecessor in interceptor.after:
            if predecessor not in earlier:
                message = f"{interceptor.name} must stand after {predecessor}"
                raise OrderError(message)
        for predecessor in interceptor.after_if_present:
            if predecessor in names and predecessor not in earlier:
                message = f"{interceptor.name} must stand after {predecessor}"
                raise OrderError(message)
