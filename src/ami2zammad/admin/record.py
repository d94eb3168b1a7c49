"""`record`: writes the AMI stream of a live PBX into a file that `replay` reads."""

from __future__ import annotations

import asyncio
import signal as unix_signal
import time
from pathlib import Path

import structlog

from ami2zammad.asterisk.connection import AmiSession
from ami2zammad.asterisk.intake import EventIntake
from ami2zammad.asterisk.recording import RecordingWriter
from ami2zammad.asterisk.redaction import Redactor
from ami2zammad.calls.tracker import CallTracker
from ami2zammad.listener import Listener, cancelled
from ami2zammad.rules import ami_endpoint, tracker_rules
from ami2zammad.settings import Settings


async def record(settings: Settings, path: Path, *, redact: bool, seconds: float | None) -> None:
    """Record until `seconds` are over, Ctrl-C, or the end of the connection; `path` must not exist.

    What Asterisk is asked about callers in the dialplan is what `run` would ask, so that a replay sees voicemail as
    `run` would. Raises OSError for a file that cannot be made, `AsteriskError` if there is no connection or it is lost.
    """
    log = structlog.get_logger()
    stop = asyncio.Event()
    for number in (unix_signal.SIGTERM, unix_signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    endpoint = ami_endpoint(settings)
    intake = EventIntake(log)
    with RecordingWriter.create(path, redactor=Redactor() if redact else None) as writer:
        try:
            session = await AmiSession.open(endpoint, intake.put, tap=writer)
        except BaseException:
            # What was not begun must not stand in the way of the next try.
            path.unlink()  # noqa: ASYNC240 - nothing else goes on here
            raise
        intake.attach(session)
        log.info("record.started", file=str(path), redacted=redact)
        # Follows the calls only to ask what `run` would ask: each answer is recorded on its way in.
        listener = Listener(
            CallTracker(tracker_rules(settings)),
            intake,
            tell=lambda _: None,
            session=lambda: session,
            clock=time.monotonic,
        )
        questions = asyncio.create_task(listener.run())
        stopped = asyncio.create_task(stop.wait())
        closed = asyncio.create_task(session.closed())
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait([stopped, closed], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        finally:
            reason = closed.result() if closed.done() else None
            await cancelled(questions)
            stopped.cancel()
            closed.cancel()
            await session.close()
        log.info("record.ended", file=str(path), messages=writer.count)
    if reason is not None:
        raise reason
