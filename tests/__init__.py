"""The tests: the promised catalogue beside this file, the floors in the folders below.

A package, so that `tests.fakes` always names this tree and never a stray `tests` of another
distribution.
"""
