"""One module per DVC stage: read parameters, call the library, write outputs."""

import gc
import os
import signal
import sys
from importlib.util import find_spec

import pipeline.process.ending  # noqa: F401  (before what it waits for)

# pydantic would look through all installed packages for plugins, which takes a tenth of a start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# what is imported stays: to look for garbage in it takes a tenth of a start
gc.set_threshold(10_000)
if sys.argv[:1] == ["-m"]:  # python -m stages.x, which is yet to be imported
    if lacking := [name for name in ("numpy", "PIL", "pydantic", "yaml") if not find_spec(name)]:
        # plain dvc repro takes whatever `python` comes first on the PATH
        sys.exit(
            f"error: {sys.executable} has no {lacking[0]}: activate the environment of FADE "
            "Pipeline, so that its python comes first on the PATH"
        )
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # the stage's modules take a second to load: an interrupt meanwhile needs no traceback
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
