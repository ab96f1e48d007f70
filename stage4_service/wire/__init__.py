"""The doors of Stage-4: what clients call, and the one call that leaves.

Deliberately absent: decisions. A servicer decodes, asks one story, and encodes.
"""
