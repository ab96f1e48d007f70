"""What a token is, and what may be in one.

This room guards the grant: an immutable value whose every field has a stated rule, issued by an
operator and never by Stage-3 itself. Deliberately absent: wildcards, patterns, case folding,
merging of scopes, renewal, delegation, and any operation that widens a token.
"""
