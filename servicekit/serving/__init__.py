"""The gRPC front door: who calls, what they may call, and what they are told when it goes wrong.

Deliberately absent: re-exports. Each name is imported from the module that defines it, so that
reading an identity or an error on a client never loads a server.
"""
