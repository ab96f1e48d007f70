"""The domains that come with Stage-3, enough for a first run with no other service."""
