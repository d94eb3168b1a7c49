"""The bridge as a service: Unix signals, and how it ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from enum import Enum
from typing import NoReturn

import structlog

from .bridge import Bridge, CannotListenError
from .listener import cancelled
from .logs import configure_logging
from .outbox import OutboxError
from .settings import ConfigurationError, Settings
from .zammad.errors import ZammadError


class Outcome(Enum):
    """How the daemon ended."""

    STOPPED = "stopped"
    FAILED = "failed"
    UNUSABLE = "unusable"
    """The settings cannot be used on this machine; trying again does not help."""


async def serve(settings: Settings, reread: Callable[[], Settings] | None = None) -> Outcome:
    """Run the daemon until SIGTERM or SIGINT; say in the log why it ended otherwise.

    At SIGHUP it goes on with what `reread` gives.
    """
    log = structlog.get_logger()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bridge = Bridge(settings)
    hangups = asyncio.Event()
    reloading = asyncio.create_task(_reload_at(hangups, bridge, settings, reread or (lambda: settings)))
    loop.add_signal_handler(signal.SIGHUP, hangups.set)
    try:
        await bridge.run(stop)
    except (ZammadError, CannotListenError, OutboxError) as error:
        log.critical("bridge.failed", problem=str(error), remedy="correct the settings; `ami2zammad check` helps")
        return Outcome.UNUSABLE
    except Exception:
        log.critical("bridge.failed", problem="a fault of ami2zammad", remedy="please report it", exc_info=True)
        return Outcome.FAILED
    finally:
        await cancelled(reloading)
    return Outcome.STOPPED


async def _reload_at(
    hangups: asyncio.Event, bridge: Bridge, settings: Settings, reread: Callable[[], Settings]
) -> NoReturn:
    """Read the settings again at each SIGHUP, and use what can be used without a restart."""
    log = structlog.get_logger()
    secrets, log_settings = set(settings.secrets()), settings.log
    while True:
        await hangups.wait()
        hangups.clear()
        bridge.notifier.reloading()
        try:
            new = await asyncio.to_thread(reread)
            # What was a secret stays one.
            secrets |= set(new.secrets())
            configure_logging(level=log_settings.level, form=log_settings.format, secrets=secrets)
            restart_needed = await bridge.reload(new)
            log_settings = new.log
            configure_logging(level=log_settings.level, form=log_settings.format, secrets=secrets)
        except ConfigurationError as error:
            log.error("bridge.reload_failed", problems=list(error.problems), remedy="nothing was changed; correct them")  # noqa: TRY400
        except ZammadError as error:
            log.error("bridge.reload_failed", problems=[str(error)], remedy="nothing was changed; correct it")  # noqa: TRY400
        except Exception:
            log.exception("bridge.reload_failed", problems=["a fault of ami2zammad"], remedy="please report it")
        else:
            log.info("bridge.reloaded", agents=len(new.agents), restart_needed=restart_needed)
        finally:
            bridge.notifier.reloaded()
