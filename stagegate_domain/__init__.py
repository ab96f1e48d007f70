"""Write a domain: a service whose methods Stage-3 calls, and nobody else.

Declare methods on a `DomainService`, then hand it to `run`. What is guarded: mTLS, one accepted
caller, strict parameters, bounded answers, an orderly end. Deliberately absent: a client. A domain
calls neither Stage-3 nor Stage-4; both refuse it and record that it tried.
"""

from stagegate_domain.cli import run
from stagegate_domain.service import Call, DomainService, MethodFailed

__all__ = ["Call", "DomainService", "MethodFailed", "run"]
