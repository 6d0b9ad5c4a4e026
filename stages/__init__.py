"""One module per DVC stage: read parameters, call the library, write outputs."""

import os
import signal
import sys

# pydantic would look through all installed packages for plugins, which takes a tenth of a start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # python -m stages.x, whose modules take a second to load: an interrupt meanwhile needs no traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
