"""Rules: how far a patch is from what is normal. Plain numpy; scoring imports no torch."""
