"""asterisk-ami (PyPI), with a listener that does nothing for every event.

python with_asterisk_ami.py PORT
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from asterisk.ami import AMIClient

over = threading.Event()


def on_event(event: Any, **_: Any) -> None:  # noqa: ANN401 -- its types are its own
    """Take it."""
    if event.name == "BenchmarkEnd":
        over.set()


client = AMIClient(address="127.0.0.1", port=int(sys.argv[1]), timeout=60)
client.add_event_listener(on_event=on_event)
_ = client.login(username="ami2zammad", secret="sandbox").response
print("ready", flush=True)
over.wait()
print(json.dumps({}), flush=True)
