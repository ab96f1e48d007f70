"""The command line `stage4`: make and serve the front desk, and be its client.

Deliberately absent: a credential as an argument. Process lists and shell histories keep those.
"""
