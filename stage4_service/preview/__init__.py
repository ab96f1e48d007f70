"""The room that says what a plan would do, from a catalogue that Stage-3 signed, asking nobody.

Deliberately absent: a verdict that it will run. What is told is what the catalogue declares, what
it certainly refuses, and what nobody can know before the plan runs.
"""
