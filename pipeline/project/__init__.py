"""Project folders apart from the clone."""
