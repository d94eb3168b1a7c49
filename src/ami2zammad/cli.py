"""The front door: one small function a command.

What a command needs is imported in it, so that `--help` does not wait for what `run` needs.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import __version__

if TYPE_CHECKING:
    from .settings import Settings

FINE: Final = 0
FAILED: Final = 1
"""The command ran and found something wrong: a ✗ of `check`, a call that `demo` missed, a file that is no recording."""
USAGE: Final = 2
"""The command line or the configuration is wrong; nothing was done."""

_EPILOG: Final = """\
exit codes:
  0  fine
  1  the command ran and found something wrong (check, demo, replay, record), or the bridge failed
  2  the command line or the configuration cannot be used; nothing was done

Settings come from the TOML file, then from AMI2ZAMMAD_<SECTION>__<KEY>, then from secret files
($CREDENTIALS_DIRECTORY, /run/secrets) of the same names.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    _make_output_safe()
    parser = _parser()
    options = parser.parse_args(arguments)
    command = options.command
    if command is None:
        parser.print_help()
        return USAGE
    try:
        return int(command(options))
    except* BrokenPipeError:
        # Who read our output has seen enough (`| head`). Nothing more must be written, not even at exit.
        sys.stdout = None
    except* KeyboardInterrupt:
        pass
    return FAILED


def _make_output_safe() -> None:
    """Let a name that the locale cannot write, or no output at all (`>&-`), harm nothing."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ami2zammad",
        description="Bridge from Asterisk (AMI) to Zammad's caller log (CTI generic).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ami2zammad {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=None,
        help="settings (default: /etc/ami2zammad/ami2zammad.toml)",
    )

    run = commands.add_parser("run", parents=[config], help="run the bridge until SIGTERM or Ctrl-C")
    run.set_defaults(command=_run)

    check = commands.add_parser(
        "check", parents=[config], help="check settings, Asterisk and Zammad; says what to change for each ✗"
    )
    check.set_defaults(command=_check)

    demo = commands.add_parser("demo", help="play recorded calls through the real bridge into a stand-in for Zammad")
    demo.add_argument("--speed", type=float, default=0.8, help="1: as fast as the calls were recorded (default: 0.8)")
    demo.set_defaults(command=_demo)

    dial = commands.add_parser(
        "dial", parents=[config], help="let the running bridge call an agent and then a number (click to dial)"
    )
    dial.add_argument("extension", metavar="EXTENSION", help="the agent's extension")
    dial.add_argument("number", metavar="NUMBER", help="the number to call, such as +492214710334")
    dial.set_defaults(command=_dial)

    replay = commands.add_parser(
        "replay", parents=[config], help="print what a recorded AMI stream would post to Zammad, as JSON lines"
    )
    replay.add_argument("file", type=Path, metavar="FILE", help="a file made by `record`, or any raw AMI stream")
    replay.set_defaults(command=_replay)

    record = commands.add_parser(
        "record", parents=[config], help="write the AMI stream of the PBX into a file that `replay` reads"
    )
    record.add_argument("file", type=Path, metavar="FILE", help="the file to make; must not exist")
    record.add_argument("--redact", action="store_true", help="replace numbers and names, the same by the same")
    record.add_argument("--seconds", type=_seconds, default=None, help="stop after so many seconds (default: Ctrl-C)")
    record.set_defaults(command=_record)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds


def _settings(options: argparse.Namespace, fallback: Mapping[str, Any] | None = None) -> Settings | None:
    """Read the settings and set up the log; None, with every problem on standard error, if they cannot be used."""
    from .logs import configure_logging  # noqa: PLC0415
    from .settings import DEFAULT_CONFIG, ConfigurationError, load_settings  # noqa: PLC0415

    try:
        settings = load_settings(options.config or DEFAULT_CONFIG, fallback=fallback)
    except ConfigurationError as error:
        _complain(f"ami2zammad: the configuration cannot be used ({len(error.problems)} to mend):")
        for problem in error.problems:
            _complain(f"  {problem}")
        return None
    configure_logging(level=settings.log.level, form=settings.log.format, secrets=settings.secrets())
    return settings


def _run(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from .bridge import Outcome, serve  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return USAGE
    return {Outcome.STOPPED: FINE, Outcome.UNUSABLE: USAGE}.get(asyncio.run(serve(settings)), FAILED)


def _check(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from .admin.check import check  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return USAGE
    return FINE if asyncio.run(check(settings)) else FAILED


def _demo(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from .sandbox.demo import demo  # noqa: PLC0415

    if not options.speed > 0:
        _complain("ami2zammad demo: --speed must be more than 0")
        return USAGE
    return FINE if asyncio.run(demo(speed=options.speed)) else FAILED


def _dial(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from .admin.dial import DialFailedError, dial  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return USAGE
    try:
        sys.stdout.write(asyncio.run(dial(settings, options.extension, options.number)) + "\n")
    except DialFailedError as error:
        _complain(f"ami2zammad dial: {error}")
        return FAILED
    return FINE


def _replay(options: argparse.Namespace) -> int:
    from .admin.replay import NO_PBX, replay  # noqa: PLC0415
    from .asterisk.errors import AsteriskError  # noqa: PLC0415

    settings = _settings(options, fallback=NO_PBX)
    if settings is None:
        return USAGE
    try:
        still_up = replay(options.file, settings, sys.stdout)
    except BrokenPipeError:
        raise
    except (OSError, AsteriskError) as error:
        _complain(f"ami2zammad replay: {_told(error, options.file)}")
        return FAILED
    if still_up:
        _complain(f"ami2zammad replay: {still_up} call(s) were still up when the recording ended")
    return FINE


def _record(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from .admin.record import record  # noqa: PLC0415
    from .asterisk.errors import AsteriskError  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return USAGE
    try:
        asyncio.run(record(settings, options.file, redact=options.redact, seconds=options.seconds))
    except FileExistsError:
        _complain(f"ami2zammad record: {options.file} exists already; name a file that does not")
        return USAGE
    except (OSError, AsteriskError) as error:
        _complain(f"ami2zammad record: {_told(error, options.file)}")
        return FAILED
    return FINE


def _told(error: Exception, file: Path) -> str:
    """Return what to tell of an error that has to do with `file`."""
    return f"{error.filename or file}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _complain(text: str) -> None:
    from .logs import goes_to_journal, prioritized  # noqa: PLC0415

    sys.stderr.write((prioritized(text, "error") if goes_to_journal(sys.stderr) else text) + "\n")
