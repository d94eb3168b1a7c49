"""pystrix (PyPI), with a callback that does nothing for every event.

python with_pystrix.py PORT
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import pystrix

over = threading.Event()


def on_event(event: Any, _: Any) -> None:  # noqa: ANN401 -- its types are its own
    """Take it."""
    if event.name == "BenchmarkEnd":
        over.set()


manager = pystrix.ami.Manager()
manager.connect("127.0.0.1", int(sys.argv[1]))
manager.register_callback("", on_event)
manager.send_action(pystrix.ami.core.Login("ami2zammad", "sandbox"))
print("ready", flush=True)
over.wait()
print(json.dumps({}), flush=True)
manager.close()
