"""Files between stages: where they lie, how they are written, what vouches for them."""
