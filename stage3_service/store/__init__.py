"""The door to SQLite: the journal's commits and the operators' reads.

It selects and inserts; deliberately absent is any decision.
"""
