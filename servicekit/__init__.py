"""Mechanisms that both services stand on: strict JSON, canonical JSON, the log, serving over gRPC.

Deliberately absent: every word of the business. Nothing here knows a plan, a token, a domain or a
gate, and nothing here imports either service.
"""
