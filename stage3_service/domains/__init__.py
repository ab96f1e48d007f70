"""What a domain is to Stage-3: what it declares, what it is handed, and how its answer is read.

Deliberately absent: any way to reach one. Calls, processes and files belong to `adapters`.
"""
