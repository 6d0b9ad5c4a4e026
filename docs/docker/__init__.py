"""Container files, and the script that they install with."""
