"""The door to Stage-4's memory: SQL, and nothing that decides."""
