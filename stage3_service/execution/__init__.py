"""The stories: how a plan is executed, how a crash is closed, how operators act.

Order lives here and rules do not: each story asks the rooms below whether, and tells the journal
what happened.
"""
