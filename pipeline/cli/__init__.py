"""The command line ``fade``."""
