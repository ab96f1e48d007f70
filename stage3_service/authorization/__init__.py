"""Whether something may happen: five gates, each a pure question about facts handed in.

This room guards the order and the answers of the gates. Deliberately absent: looking facts up,
recording answers, and any gate that can be left out.
"""
