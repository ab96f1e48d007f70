"""The door every call passes, in one order that is asserted when a server is built.

The order, outermost first, and why each stands where it stands:

1. shield: whatever happens further in, the caller learns an incident number and nothing else.
2. access_log: sees the final status of everything below, refusals included.
3. identity: who is calling, before anything depends on it.
4. method: whether this caller may call this method, before a byte of the request is read.
5. deadline: how long anybody waits, so that a call that is already too late starts nothing.
6. admission: whether there is room, and room for this caller. The room is measured when the call
   arrives; the refusal is given in a pool of its own, after the questions above. Where more calls
   come than that pool is there for, the rest are refused before the first question, see `door`.
7. request: reads and parses the message, so a refused caller's bytes are never read.
8. turn: how many calls run side by side, innermost, so that a caller who sends slowly, or is
   refused, takes nobody's turn.

Deliberately absent: retries, metadata as a source of authority, and exception text on the wire.
"""

from servicekit.serving.access import IdentityInterceptor, MethodInterceptor
from servicekit.serving.admission import CallPool
from servicekit.serving.capacity import (
    AdmissionInterceptor,
    DeadlineInterceptor,
    RequestInterceptor,
    TurnInterceptor,
)
from servicekit.serving.interceptor_order import OrderedInterceptor, assert_order
from servicekit.serving.policy import CallPolicy
from servicekit.serving.read_watch import ReadWatch
from servicekit.serving.shield import AccessLogInterceptor, ShieldInterceptor


def build_interceptors(
    policy: CallPolicy, pool: CallPool, watch: ReadWatch
) -> tuple[OrderedInterceptor, ...]:
    """Return the door of one server, outermost first, its order already asserted."""
    chain: list[OrderedInterceptor] = [ShieldInterceptor(policy), AccessLogInterceptor(policy)]
    if policy.access is not None:
        chain += [
            IdentityInterceptor(policy, policy.access),
            MethodInterceptor(policy, policy.access, pool),
        ]
    chain += [
        DeadlineInterceptor(policy),
        AdmissionInterceptor(policy, pool),
        RequestInterceptor(policy, watch),
        TurnInterceptor(policy, pool.turns, pool.computing),
    ]
    assert_order(chain)
    return tuple(chain)
