"""What a deal is: actions, events, definitions and their rules. Pure: no clock, no I/O, no randomness."""
