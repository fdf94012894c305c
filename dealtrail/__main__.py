"""`python -m dealtrail`: the command line."""

from dealtrail.cli import main

main()
