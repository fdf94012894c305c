"""What the log says: timelines folded into a read model, and one module per question asked of it."""
