"""The doors to domains: in-process ones now, each behind the same port and the same time limit.

Deliberately absent: any decision about whether a method may be called, and any hook that would
load code named in a file.
"""
