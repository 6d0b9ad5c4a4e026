"""This process: its terminal, its memory, its parent."""
