"""The doors of Stage-3: three listeners, their messages, and who may call what.

Deliberately absent: decisions. A servicer decodes, asks one story, and encodes.
"""
