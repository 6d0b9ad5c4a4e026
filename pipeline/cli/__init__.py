"""The command line ``fade``."""

import os

# pydantic would look through all installed packages for plugins, which takes a tenth of a start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
