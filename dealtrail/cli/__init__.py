"""The command line: it turns words into calls of a Trail, and answers into tables, JSON or CSV. It computes nothing.

Nothing heavier than click is imported before a command runs, so that help and completion come at once.
"""

from dealtrail.cli.app import main

__all__ = ["main"]
