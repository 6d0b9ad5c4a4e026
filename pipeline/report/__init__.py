"""The report: one HTML page that needs nothing beside it, and plots for ``dvc plots``."""
