"""The command line `stage3`: make, serve, and operate the authority.

Operator commands are clients like any other: they go through the operators' listener with a
certificate of their own. Deliberately absent: a way around that listener into a running service.
"""
