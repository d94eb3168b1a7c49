"""The front door: one small function a command.

What a command needs is imported in it, so that `--help` does not wait for what `run` needs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
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

_SANDBOX_ADDRESS: Final = "127.0.0.1", 8080
_SANDBOX_LISTEN: Final = "127.0.0.1:8080"

_EPILOG: Final = """\
exit codes:
  0  fine
  1  the command ran and found something wrong (init, check, status, demo, replay, record), or the bridge failed
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

    _add_init(commands, config)

    run = commands.add_parser("run", parents=[config], help="run the bridge until SIGTERM or Ctrl-C")
    run.set_defaults(command=_run)

    check = commands.add_parser(
        "check", parents=[config], help="check settings, Asterisk and Zammad; says what to change for each ✗"
    )
    check.set_defaults(command=_check)

    demo = commands.add_parser("demo", help="play recorded calls through the real bridge into a stand-in for Zammad")
    demo.add_argument("--speed", type=float, default=0.8, help="1: as fast as the calls were recorded (default: 0.8)")
    demo.add_argument(
        "--serve",
        type=_address,
        nargs="?",
        const=_SANDBOX_ADDRESS,
        metavar="ADDRESS:PORT",
        help=f"show the caller log as a web page there until Ctrl-C (default: {_SANDBOX_LISTEN})",
    )
    demo.set_defaults(command=_demo)

    sandbox = commands.add_parser("sandbox", help="run a stand-in for Zammad, its caller log as a web page")
    sandbox.add_argument(
        "--listen",
        type=_address,
        default=_SANDBOX_ADDRESS,
        metavar="ADDRESS:PORT",
        help=f"where (default: {_SANDBOX_LISTEN}); everybody who reaches it sees the calls",
    )
    sandbox.add_argument("--token", type=_token, default="sandbox-token", help="the token of its endpoint's URL")
    sandbox.set_defaults(command=_sandbox)

    dial = commands.add_parser(
        "dial", parents=[config], help="let the running bridge call an agent and then a number (click to dial)"
    )
    dial.add_argument("extension", metavar="EXTENSION", help="the agent's extension")
    dial.add_argument("number", metavar="NUMBER", help="the number to call, such as +492214710334")
    dial.set_defaults(command=_dial)

    outbox = commands.add_parser(
        "outbox", parents=[config], help="show what waits for Zammad and what was set aside; try again, discard"
    )
    outbox.add_argument(
        "action",
        nargs="?",
        choices=("list", "show", "retry", "discard"),
        default="list",
        help="list (the default): all events; show: some in full; retry: deliver what was set aside after all; "
        "discard: delete",
    )
    outbox.add_argument("ids", metavar="ID", type=int, nargs="*", help="the events to show, retry or discard")
    outbox.add_argument("--all", action="store_true", help="retry or discard all that were set aside")
    outbox.add_argument("--json", action="store_true", help="print one JSON document")
    outbox.set_defaults(command=_outbox)

    status = commands.add_parser(
        "status", parents=[config], help="say how the running bridge is: connections, live calls, what waits"
    )
    status.add_argument("--watch", action="store_true", help="again every 2 seconds, until Ctrl-C")
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one line of JSON, for programs")
    form.add_argument(
        "--check", action="store_true", help="say nothing if all is well; exit code 0 or 1, for health checks"
    )
    status.set_defaults(command=_status)

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


def _add_init(commands: Any, config: argparse.ArgumentParser) -> None:  # noqa: ANN401 - argparse keeps the type private
    init = commands.add_parser(
        "init",
        parents=[config],
        allow_abbrev=False,
        help="look at Asterisk, ask what is missing, write the settings and check them",
        description=(
            "Looks at Asterisk, asks what is missing, writes the settings and checks them. The AMI secret and Zammad's "
            "endpoint are never given on the command line, which everybody can see: they are asked for without echo, "
            "or come from files or from AMI2ZAMMAD_ASTERISK__SECRET and AMI2ZAMMAD_ZAMMAD__URL."
        ),
    )
    init.add_argument("--host", help="Asterisk's host or address (default: 127.0.0.1)")
    init.add_argument("--port", type=int, help="port of its manager interface (default: 5038)")
    init.add_argument("--username", metavar="NAME", help="account in its manager.conf (default: ami2zammad)")
    init.add_argument("--secret-file", type=Path, metavar="FILE", help="file with that account's secret")
    init.add_argument("--url-file", type=Path, metavar="FILE", help="file with Zammad's endpoint, token and all")
    init.add_argument("--tls", action="store_true", help="speak TLS with Asterisk")
    init.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificates to trust for that (default: the system's)"
    )
    init.add_argument(
        "--trunk",
        action="append",
        default=[],
        metavar="GLOB",
        help="a channel that leads outside, such as PJSIP/sipgate; once for each (default: what seems to be one)",
    )
    init.add_argument(
        "--agents",
        choices=("all", "queues", "none"),
        help="which agents to name in the settings (default: all; of more than 100, the members of queues)",
    )
    init.add_argument("--country", metavar="CC", help="country of national numbers (default: the machine's)")
    init.add_argument("--outbound-prefix", metavar="DIGITS", help="dialled before an outside number (default: nothing)")
    init.add_argument("--yes", action="store_true", help="ask nothing: take what is given, found or the default")
    init.add_argument("--force", action="store_true", help="replace an existing file; it is kept with .bak at its end")
    init.set_defaults(command=_init)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"must be address:port, such as {_SANDBOX_LISTEN}")
    return host.strip("[]"), int(port)


def _token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", text):
        raise argparse.ArgumentTypeError("may have letters, digits, dot, dash, underscore and tilde")
    return text


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


def _init(options: argparse.Namespace) -> int:
    from .admin.access import CannotInitError, NotReadyError  # noqa: PLC0415
    from .admin.dialogue import Dialogue  # noqa: PLC0415
    from .admin.init import Wishes, init  # noqa: PLC0415
    from .settings import DEFAULT_CONFIG  # noqa: PLC0415

    wishes = {name: value for name, value in vars(options).items() if name not in {"command", "yes", "trunk", "config"}}
    wishes |= {"config": options.config or DEFAULT_CONFIG, "trunks": tuple(options.trunk)}
    interactive = not options.yes and sys.stdin is not None and sys.stdin.isatty()
    try:
        return FINE if init(Wishes(**wishes), Dialogue(interactive=interactive)) else FAILED
    except CannotInitError as error:
        _complain(f"ami2zammad init: {error}")
        return USAGE
    except NotReadyError as error:
        _complain(f"ami2zammad init: {error}")
        return FAILED


def _run(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from .daemon import Outcome, serve  # noqa: PLC0415
    from .settings import DEFAULT_CONFIG, load_settings  # noqa: PLC0415

    settings = _settings(options)
    if settings is None:
        return USAGE
    outcome = asyncio.run(serve(settings, lambda: load_settings(options.config or DEFAULT_CONFIG)))
    return {Outcome.STOPPED: FINE, Outcome.UNUSABLE: USAGE}.get(outcome, FAILED)


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
    try:
        return FINE if asyncio.run(demo(speed=options.speed, serve=options.serve)) else FAILED
    except OSError as error:
        _complain(f"ami2zammad demo: {error.strerror}; name another address: --serve 127.0.0.1:8081")
        return FAILED


def _sandbox(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from .sandbox.serving import sandbox  # noqa: PLC0415

    host, port = options.listen
    try:
        asyncio.run(sandbox(host, port, options.token, sys.stdout))
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(f"ami2zammad sandbox: {error.strerror}; name another address: --listen 127.0.0.1:8081")
        return FAILED
    return FINE


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


def _outbox(options: argparse.Namespace) -> int:
    complaint = _outbox_usage(options)
    if complaint:
        _complain(f"ami2zammad outbox: {complaint}")
        return USAGE
    settings = _settings(options)
    return USAGE if settings is None else _use_outbox(options, settings)


def _outbox_usage(options: argparse.Namespace) -> str:
    """Return what is wrong with the command line; empty if nothing is."""
    if options.all and options.action not in {"retry", "discard"}:
        return "--all goes with retry and discard"
    if options.action == "list":
        return "list takes no ID" if options.ids else ""
    return "" if bool(options.ids) != options.all else f"{options.action} takes one ID or more, or --all"


def _use_outbox(options: argparse.Namespace, settings: Settings) -> int:
    from .admin.outbox import OutboxAdmin, OutboxUnreadableError  # noqa: PLC0415

    found = True
    try:
        with contextlib.closing(OutboxAdmin(settings, sys.stdout, as_json=options.json)) as admin:
            match options.action:
                case "list":
                    admin.list_all()
                case "show":
                    found = admin.show(options.ids)
                case "retry":
                    found = admin.retry(None if options.all else options.ids) > 0 or options.all
                case _:
                    found = admin.discard(None if options.all else options.ids) > 0 or options.all
    except OutboxUnreadableError as error:
        _complain(f"ami2zammad outbox: {error}")
        return FAILED
    if not found:
        _complain("ami2zammad outbox: no such event; `ami2zammad outbox` lists them")
        return FAILED
    return FINE


def _status(options: argparse.Namespace) -> int:
    from .admin.status import NoStatusError, check  # noqa: PLC0415

    if options.check and options.watch:
        _complain("ami2zammad status: --check looks once; leave out --watch")
        return USAGE
    settings = _settings(options)
    if settings is None:
        # Container engines know 0 and 1 only.
        return FAILED if options.check else USAGE
    try:
        if options.check:
            faults = check(settings)
            for fault in faults:
                _complain(f"ami2zammad status: {fault}")
            return FAILED if faults else FINE
        # The tables take a while to load, and a health check needs none.
        from .admin.status_table import status  # noqa: PLC0415

        return FINE if status(settings, as_json=options.json, watch=options.watch) else FAILED
    except NoStatusError as error:
        _complain(f"ami2zammad status: {error}")
        return FAILED


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
