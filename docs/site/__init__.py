"""The documentation as a site: ``python -m docs.site`` (``make docs``)."""
