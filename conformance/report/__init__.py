"""What a run's events become: ``core`` computes a summary, the other modules draw it."""
