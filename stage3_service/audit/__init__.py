"""What is said about every decision and every effect, and the toll gate that says it first.

Deliberately absent: any way to read, filter, change or silence what was recorded. Reading is a
query of the operator's door; changing does not exist.
"""
