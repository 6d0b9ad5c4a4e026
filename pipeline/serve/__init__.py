"""A page and an HTTP interface over a finished run or a bundle: ``fade serve``."""
