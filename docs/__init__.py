"""The pages of the documentation, and ``docs.site``, which builds a site from them."""
