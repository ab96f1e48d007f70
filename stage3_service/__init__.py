"""Stage-3, the authority: it owns tokens, authorization, the audit log and the domains.

It guards the only path to an effect: a plan arrives through one RPC, is parsed anew, passes five
gates per step, and each step is recorded as started before its domain is called. Deliberately
absent: planning, inference, defaults, retries, background work, and any way for Stage-3 or a
domain to issue, widen or prolong a token.
"""
