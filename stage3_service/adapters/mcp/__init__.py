"""The door to MCP servers: programs that Stage-3 starts, and services it reaches over HTTP.

Guards that a plan's call is one `tools/call` and nothing else. Deliberately absent: sampling,
elicitation, roots, resources, prompts, and every second attempt that the protocol's library has.
This file imports nothing: the launcher of a child starts from it, and must start fast.
"""
