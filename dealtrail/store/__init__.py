"""Where events live: the append-only log, through the recorders of the eventsourcing library."""
