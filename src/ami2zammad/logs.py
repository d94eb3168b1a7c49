"""Structured logs: one event, one line, one stable dotted name; secrets and control characters never get in.

The names and their fields are an interface for operators and are listed in docs/logs.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, Literal, TextIO, cast

import structlog

REDACTED: Final = "[secret]"
# Replacing every "a" in the log because somebody's secret is "a" would hide nothing and spoil everything.
_SHORTEST_SECRET: Final = 4
# Line and paragraph separators break lines for some readers though they are no control characters.
_BREAKS: Final = frozenset("\u2028\u2029")
# What the journal calls our levels (sd-daemon(3), syslog(3)).
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
# Made once: a union that stands in the call is put together anew at each.
_NUMBERS: Final = (bool, int, float)
_LISTS: Final = (list, tuple, set, frozenset)


class Redaction:
    """A structlog processor that keeps secrets and control characters out of every value.

    It is the last line of defence: nothing that knows a secret should put it into a log in the first place.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one secret may be part of another (the token of the URL).
        self._secrets = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Clean all values of `event`, however deep."""
        for key, value in event.items():
            # structlog's own notes (underscore) are not printed. Nearly all values are texts.
            if not key.startswith("_"):
                event[key] = self.text(value) if type(value) is str else self.clean(value)
        return event

    def clean(self, value: Any) -> Any:  # noqa: ANN401 - a log event may hold anything
        """Return `value` without secrets and without control characters."""
        if value is None or isinstance(value, _NUMBERS):
            return value
        if isinstance(value, dict):
            return {self.text(str(key)): self.clean(one) for key, one in value.items()}
        if isinstance(value, _LISTS):
            return [self.clean(one) for one in value]
        return self.text(value if isinstance(value, str) else str(value))

    def text(self, text: str) -> str:
        """Return `text` without secrets and without control characters (line breaks of tracebacks stay)."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        if text.isprintable():
            return text
        return "".join("\ufffd" if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    code = ord(character)
    return (code < 0x20 and character not in "\n\t") or 0x7F <= code < 0xA0 or character in _BREAKS  # noqa: PLR2004


def _one_line(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep line breaks out of a console line; JSON escapes them by itself. A traceback may have several lines."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = value.replace("\n", "\\n")
    return event


def _head_first(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what every line has where the eye looks first."""
    head = {key: event.pop(key) for key in ("timestamp", "level", "event", "call_id") if key in event}
    return {**head, **event}


def _foreign(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give what a library logs (prose) a stable name."""
    event["message"] = event.get("event", "")
    event["event"] = "library.log"
    return event


class _ForJournal:
    """Renders an event for the journal: its priority before each line; the journal takes it off and files by it."""

    def __init__(self, render: structlog.typing.Processor) -> None:
        self._render = render

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401 - structlog's
        # The renderer may take the level out of the event.
        level = str(event.get("level"))
        return prioritized(str(self._render(logger, method, event)), level)


def prioritized(text: str, level: str) -> str:
    """Return `text` with its priority before each line, as the journal wants it (sd-daemon(3))."""
    priority = _PRIORITIES.get(level, _PRIORITIES["info"])
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


def goes_to_journal(stream: TextIO) -> bool:
    """Say whether `stream` is the one that systemd has connected with the journal (JOURNAL_STREAM, systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        # No file behind it, or closed.
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Output:
    """A text stream whose failures end neither a call nor the bridge: a full disk, a reader that has gone.

    The first failure is said once on standard error; lines that cannot be written are lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._failed = False

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._note(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._note(error)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def _note(self, error: Exception) -> None:
        if not self._failed and sys.stderr is not None:
            self._failed = True
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"ami2zammad: the log cannot be written ({error}); the bridge goes on without it\n")


def configure_logging(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["json", "console"] | None = None,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send all logs, ours and the libraries', to `stream` (standard output).

    `form` None: console on a terminal, else JSON lines. Where the journal listens, lines carry their priority and no
    time: the journal has its own.
    """
    stream = stream or sys.stdout
    output = _Output(stream)
    journal = goes_to_journal(stream)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    console = form == "console" or (form is None and output.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        *([] if journal else [structlog.processors.TimeStamper(fmt="iso", utc=not console, key="timestamp")]),
        structlog.processors.format_exc_info,
        Redaction(secrets),
    ]
    arrange: structlog.typing.Processor = _one_line if console else _head_first
    render: structlog.typing.Processor = (
        # The traceback is a text by then (format_exc_info), which some versions would rather have made themselves.
        structlog.dev.ConsoleRenderer(colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    last = [arrange, _ForJournal(render) if journal else render]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", output)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _foreign],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shared, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # What libraries say below a warning is about themselves, not about calls.
    root.setLevel(max(threshold, logging.WARNING) if threshold > logging.DEBUG else logging.DEBUG)
    logging.captureWarnings(capture=True)
