"""Guard the arithmetic of a transparency log: hashes of leaves, roots and commitments.

Pure functions over bytes. Files, time and randomness are deliberately absent.
"""
