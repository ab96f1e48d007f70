"""What a plan says: its steps, its data flows, its digest.

This room guards the meaning of the client's bytes: it parses them again, trusting nothing that
Stage-4 found, and names the first rule that is broken. Deliberately absent: whether a plan is
allowed, and any part of a credential beyond the check that one was presented.
"""
