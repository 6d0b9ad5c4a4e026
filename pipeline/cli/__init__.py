"""The command line ``fade``."""

import atexit
import gc
import os

# pydantic would look through all installed packages for plugins, which takes a tenth of a start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# what a start makes is kept: to look for garbage in it takes a tenth of a start, and a seventh at its end
gc.set_threshold(10_000)
atexit.register(gc.freeze)
