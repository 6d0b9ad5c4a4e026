"""The command line ``fade``."""

import gc
import os

import pipeline.process.ending  # noqa: F401  (before what it waits for)

# pydantic would look through all installed packages for plugins, which takes a tenth of a start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# what a start makes is kept: to look for garbage in it takes a tenth of a start
gc.set_threshold(100_000)
