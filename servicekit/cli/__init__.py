"""What every command line of a service needs: failures with a next step, output, profiles, a run.

Deliberately absent: any word of a service's business, and imports that make `--help` wait.
"""
