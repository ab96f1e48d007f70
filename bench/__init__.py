"""Figures of the pair beside the figures of a bare echo, measured in one run.

It guards against a flattering number: every response is validated, ours and the baseline take
turns within a run, and what is printed is both figures and their ratio.

Deliberately absent: any threshold that fails. A time measured on a shared machine proves nothing
alone, so nothing here is a test.
"""
