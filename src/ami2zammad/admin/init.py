"""`init`: from an Asterisk and a Zammad to settings that work, for who knows Asterisk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ami2zammad.admin.access import SECRET_VARIABLE, Access, CannotInitError, NotReadyError
from ami2zammad.admin.account import name_problem
from ami2zammad.admin.check import check
from ami2zammad.admin.country import machine_country
from ami2zammad.admin.dialogue import Complaint, Dialogue, shown
from ami2zammad.admin.proposal import Judgement, Proposal, ProposedAgent, Role, channel_glob, propose
from ami2zammad.admin.settings_file import UnreadableFileError, Values, complaint, read_values, render, write
from ami2zammad.asterisk.survey import Survey
from ami2zammad.calls.sides import DEFAULT_TRUNK_CONTEXTS, Side, TrunkPatterns
from ami2zammad.logs import configure_logging
from ami2zammad.settings import DEFAULT_CONFIG, ConfigurationError, NumberSettings, load_settings
from ami2zammad.zammad.client import ZammadClient
from ami2zammad.zammad.endpoint import ZammadEndpoint
from ami2zammad.zammad.errors import ZammadError

Agents = Literal["all", "queues", "none"]
"""Which of the agents that were found are written into the settings; `queues`: the members of queues."""

URL_VARIABLE: Final = "AMI2ZAMMAD_ZAMMAD__URL"
ACCOUNT_FILE: Final = "asterisk-account.conf"
"""Beside the settings: see `Access`."""

_MORE_THAN_NEEDED: Final = ("Command", "GetConfig", "UpdateConfig", "ModuleLoad")
"""Actions by which a stolen secret gives much of the PBX away, and that the bridge never runs."""
_NONE: Final = "-"
"""How one says "none" where Enter means something else."""
_NAMES_SHOWN: Final = 12
_MANY: Final = 100
"""More agents than these are hardly all at the help desk: only those in queues are written, unless one says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line says. None: nothing."""

    config: Path = DEFAULT_CONFIG
    host: str | None = None
    port: int | None = None
    username: str | None = None
    secret_file: Path | None = None
    url_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    trunks: tuple[str, ...] = ()
    agents: Agents | None = None
    country: str | None = None
    outbound_prefix: str | None = None
    force: bool = False


def init(wishes: Wishes, dialogue: Dialogue, environ: Mapping[str, str] = os.environ) -> bool:
    """Ask, look at the PBX, write the settings, check them; return whether the check found all well.

    Raises CannotInitError and NotReadyError.
    """
    setup = _Setup(wishes, dialogue, environ)
    try:
        setup.gather()
    except EOFError:
        dialogue.say()
        raise NotReadyError("the input ended before the last question: no settings were written") from None
    except KeyboardInterrupt:
        dialogue.say("\nStopped: no settings were written.")
        raise
    setup.write()
    return setup.check()


class _Setup:
    """One run: answers gather in `_values`, which are what the file will say."""

    def __init__(self, wishes: Wishes, dialogue: Dialogue, environ: Mapping[str, str]) -> None:
        self._wishes = wishes
        self._dialogue = dialogue
        self._environ = environ
        self._path = wishes.config
        self._values: Values = {}

    # What is done, in order

    def gather(self) -> None:
        """Find out all that the settings need, without changing anything but ACCOUNT_FILE."""
        self._look_at_the_file()
        self._take_wishes()
        wishes = self._wishes
        secret = self._given(wishes.secret_file, "--secret-file", SECRET_VARIABLE, complaint("asterisk", "secret"))
        url = self._given(wishes.url_file, "--url-file", URL_VARIABLE, complaint("zammad", "url"))
        if url:
            self._section("zammad")["url"] = url
        if not self._dialogue.interactive:
            self._check_that_nothing_is_missing()
        access = self._access()
        access.ask(host=wishes.host is None, port=wishes.port is None, username=wishes.username is None)
        found, commands = access.look(secret)
        self._tell_of_account(found, commands)
        proposal = propose(found)
        self._choose_trunks(proposal)
        self._choose_contexts(proposal)
        self._tell_of_queues(found)
        self._choose_agents(proposal)
        self._ask_for_numbers()
        if not url:
            self._ask_for_zammad()
        if not self._dialogue.confirm(f"\nWrite {self._path}?", default=True):
            raise NotReadyError("no settings were written")

    def write(self) -> None:
        """Put the settings into the file."""
        try:
            backup = write(self._path, render(self._values))
        except ConfigurationError as error:
            raise CannotInitError("; ".join(error.problems)) from None
        except OSError as error:
            raise CannotInitError(f"{error.filename or self._path}: {error.strerror}") from None
        self._dialogue.say(f"\n{self._path} is written (mode 0600).")
        if backup is not None:
            self._dialogue.say(f"What it said before is in {backup}.")
        self._access().settle()

    def check(self) -> bool:
        """Let `check` look at what was written."""
        say = self._dialogue.say
        try:
            settings = load_settings(self._path, environ=self._environ)
        except ConfigurationError as error:
            say("With the environment's variables and secret files, the configuration cannot be used:")
            for problem in error.problems:
                say(f"  {problem}")
            return False
        configure_logging(level=settings.log.level, form=settings.log.format, secrets=settings.secrets())
        say()
        fine = asyncio.run(check(settings, output=self._dialogue.output))
        say()
        if fine:
            say("All is well. Start the bridge, or restart it: systemctl restart ami2zammad")
        else:
            named = "" if self._path == DEFAULT_CONFIG else f" --config {self._path}"
            say(f"Mend what is marked, then: ami2zammad check{named}")
        return fine

    # What is there already, and what the command line says

    def _look_at_the_file(self) -> None:
        path, wishes, say = self._path, self._wishes, self._dialogue.say
        if path.is_dir():
            raise CannotInitError(f"{path} is a directory; name the file in it with --config")
        place = next(folder for folder in path.absolute().parents if folder.exists())
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise CannotInitError(f"{place} cannot be written to; run init as root, or name another file with --config")
        if not path.exists():
            return
        if not self._dialogue.interactive and not wishes.force:
            raise CannotInitError(
                f"{path} exists already; --force replaces it (what it says is kept in {path.name}.bak), "
                "--config names another file"
            )
        dropped: list[str] = []
        try:
            self._values, dropped = read_values(path)
            # Where a file says nothing, it means the default.
            self._section("numbers").setdefault("country", NumberSettings().country)
        except UnreadableFileError as error:
            say(f"{shown(str(error))}: nothing is taken over from it.")
        say(
            f"{path} exists already. What it says is taken over, except comments; all of it is kept in {path.name}.bak."
        )
        for problem in dropped:
            say(f"  left out: {shown(problem)}")
        if not wishes.force and not self._dialogue.confirm("Replace it?", default=False):
            raise CannotInitError(f"{path} was left as it is")

    def _take_wishes(self) -> None:
        wishes = self._wishes
        ca_file = None if wishes.ca_file is None else str(wishes.ca_file.absolute())
        trunks = list(wishes.trunks) or None
        problems = []
        for option, section, key, value in (
            ("host", "asterisk", "host", wishes.host),
            ("port", "asterisk", "port", wishes.port),
            ("username", "asterisk", "username", wishes.username),
            ("tls", "asterisk", "tls", wishes.tls or None),
            ("ca-file", "asterisk", "ca_file", ca_file),
            ("trunk", "asterisk", "trunks", trunks),
            ("country", "numbers", "country", wishes.country),
            ("outbound-prefix", "numbers", "outbound_prefix", wishes.outbound_prefix),
        ):
            if value is None:
                continue
            more = (name_problem,) if option == "username" else ()
            problem = complaint(section, key, *more)(value)
            if problem:
                problems.append(f"--{option} {problem}")
            if option == "username":
                self._access().take_username(str(value))
            else:
                self._section(section)[key] = value
        if problems:
            raise CannotInitError("; ".join(problems))

    def _given(self, file: Path | None, option: str, variable: str, accepts: Complaint) -> str:
        """Return a secret from a file or the environment; empty if there is none."""
        origin, value = variable, self._environ.get(variable, "")
        if file is not None:
            origin = f"{option} {file}"
            try:
                value = file.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise CannotInitError(f"{origin}: cannot be read ({reason})") from None
        problem = accepts(value) if value or file is not None else ""
        if problem:
            raise CannotInitError(f"{origin}: {problem}")
        return value

    def _check_that_nothing_is_missing(self) -> None:
        missing = []
        if "url" not in self._section("zammad"):
            missing.append(f"Zammad's endpoint (--url-file or {URL_VARIABLE})")
        if not self._country():
            missing.append("the country of the numbers (--country)")
        if missing:
            raise CannotInitError(f"nobody can be asked, so these must be given: {', '.join(missing)}")

    # What was found

    def _tell_of_account(self, found: Survey, commands: set[str]) -> None:
        say, username = self._dialogue.say, shown(self._section("asterisk")["username"])
        say(f"Logged in as {username}.")
        if found.gaps:
            say(f"What {username} may not see, and the bridge need not:")
            for gap in found.gaps:
                say(f"  {gap.what} (write = {gap.right})")
            say("If something is missing below, run init with an account that has these rights, and again with this")
            say("one: what is in the settings then stays.")
        excess = [command for command in _MORE_THAN_NEEDED if command in commands]
        if excess:
            say(
                f"It may do more than the bridge needs ({', '.join(excess)}): who steals its secret has the PBX. Better"
            )
            say("give the bridge an account of its own: run init again with a new --username.")

    def _choose_trunks(self, proposal: Proposal) -> None:
        asterisk = self._section("asterisk")
        trunks = [one for one in proposal.judgements if one.role is Role.TRUNK]
        self._tell_reasons("Trunks", trunks)
        unknown = [one for one in proposal.judgements if one.role is Role.UNKNOWN]
        self._tell_reasons("Neither trunk nor phone, as far as can be seen", unknown)
        guessed = [one for one in proposal.judgements if one.role is Role.PHONE and not one.sure]
        self._tell_reasons("Taken for phones", guessed)
        names = {one.endpoint.name: channel_glob(one.endpoint.channel) for one in proposal.judgements}
        if self._wishes.trunks:
            asterisk["trunks"] = [names.get(one, one) for one in self._wishes.trunks]
        else:
            kept: list[str] = asterisk.get("trunks", [])
            # What looks like a channel's suffix at the end of a device's own name must stay: so it gets one.
            covered = TrunkPatterns(kept, ())
            known = {f"{one.endpoint.channel}-0": glob for one, glob in zip(trunks, proposal.trunks, strict=True)}
            new = [glob for name, glob in known.items() if covered.side_of(name, "") is not Side.OUTSIDE]
            asterisk["trunks"] = self._ask_for_trunks([*kept, *new], names)
        if not asterisk["trunks"]:
            self._dialogue.say(
                "No trunk: only the contexts in asterisk.trunk_contexts tell which calls are from outside."
            )

    def _ask_for_trunks(self, trunks: list[str], names: Mapping[str, str]) -> list[str]:
        accepts = complaint("asterisk", "trunks")
        default = ", ".join(trunks)
        self._dialogue.say()
        question = f"Trunks, with commas between them ({_NONE} for none)"
        answer = self._dialogue.ask(question, default, lambda answer: accepts([answer]))
        if answer == default:
            return trunks
        named = [one for part in answer.split(",") if (one := part.strip()) and one != _NONE]
        return [names.get(one, one) for one in named]

    def _choose_contexts(self, proposal: Proposal) -> None:
        asterisk = self._section("asterisk")
        contexts: list[str] = asterisk.get("trunk_contexts", list(DEFAULT_TRUNK_CONTEXTS))
        covered = TrunkPatterns((), contexts)
        more = [one for one in proposal.contexts if covered.side_of("", one) is not Side.OUTSIDE]
        if more:
            self._dialogue.say(f"\nThe dialplan has {', '.join(more)}: calls that begin there come from outside, too.")
            asterisk["trunk_contexts"] = [*contexts, *more]

    def _tell_of_queues(self, found: Survey) -> None:
        if found.queues:
            self._dialogue.say("\nQueues (Zammad gets their names as they are, for its Caller Log Filter):")
        for queue in found.queues:
            members = [member.name or member.interface for member in found.members if member.queue == queue]
            self._dialogue.say(f"  {shown(queue)}: {_some(members)}")

    def _choose_agents(self, proposal: Proposal) -> None:
        kept: list[dict[str, Any]] = self._values.setdefault("agents", [])
        found = {agent.extension: agent for agent in proposal.agents}
        for agent in kept:
            known = found.pop(agent["extension"], None)
            if known is not None and known.name and not agent.get("name"):
                agent["name"] = known.name
        wanted = self._wanted(list(found.values()), anew=not kept) if found else []
        kept += [{"extension": agent.extension, "name": agent.name} for agent in wanted]

    def _wanted(self, new: list[ProposedAgent], *, anew: bool) -> list[ProposedAgent]:
        """Say which of the agents that the settings do not name yet are to be written."""
        say = self._dialogue.say
        members = [agent for agent in new if agent.queues]
        title = "Agents" if anew else "Agents that the settings do not name yet"
        say(f"\n{title}: {len(new)}, {len(members)} of them in queues")
        say(f"  {_some(f'{agent.extension} {agent.name}'.strip() for agent in new)}")
        usual = "none" if not anew else "all" if len(new) <= _MANY else "queues" if members else "none"
        choice: str = self._wishes.agents or usual
        if self._wishes.agents is None:
            choices = get_args(Agents)
            choice = self._dialogue.ask(
                "Write which of them into the settings: all, queues (those in queues), none",
                choice,
                lambda answer: "" if answer in choices else f"must be one of {', '.join(choices)}",
            )
        return {"all": new, "queues": members}.get(choice, [])

    # Numbers and Zammad

    def _ask_for_numbers(self) -> None:
        numbers, wishes, dialogue = self._section("numbers"), self._wishes, self._dialogue
        dialogue.say()
        country = self._country()
        if wishes.country is None:
            question = "Country whose numbers are dialled without a country code, in two letters"
            country = dialogue.ask(question, country, complaint("numbers", "country"))
        numbers["country"] = country.upper()
        if wishes.outbound_prefix is None:
            accepts = complaint("numbers", "outbound_prefix")
            prefix = dialogue.ask(
                f"What is dialled before an outside number to get a line, 0 say ({_NONE} for nothing)",
                numbers.get("outbound_prefix") or _NONE,
                lambda answer: "" if answer == _NONE else accepts(answer),
            )
            numbers["outbound_prefix"] = "" if prefix == _NONE else prefix

    def _country(self) -> str:
        country: str = self._section("numbers").get("country", "")
        if not country:
            country = machine_country(self._environ)
        return "" if complaint("numbers", "country")(country) else country

    def _ask_for_zammad(self) -> None:
        zammad, dialogue = self._section("zammad"), self._dialogue
        if dialogue.interactive:
            dialogue.say(
                "\nZammad's endpoint: Admin > System > Integrations > CTI (generic). What you paste is not shown."
            )
        while dialogue.interactive:
            known = zammad.get("url", "")
            url = dialogue.ask_secret(f"Endpoint ({'Enter: the one of before' if known else 'https://...'})") or known
            problem = complaint("zammad", "url")(url)
            if problem:
                dialogue.say(f"  That {problem}.")
                continue
            zammad["url"] = url
            # Said twice, it is meant: Zammad may be down just now.
            if self._zammad_takes() or url == known:
                return

    def _zammad_takes(self) -> bool:
        """Try the endpoint, and say what came of it."""
        zammad, say = self._section("zammad"), self._dialogue.say
        ca_file = zammad.get("ca_file", "")
        try:
            endpoint = ZammadEndpoint(
                zammad["url"],
                format=zammad.get("format", "json"),
                timeout=zammad.get("timeout", 5.0),
                ca_file=Path(ca_file) if ca_file else None,
                verify_tls=zammad.get("verify_tls", True),
            )
            problem = asyncio.run(_try(endpoint))
        except ZammadError as error:
            say(f"  {error}")
            return False
        say(f"  {endpoint.public_url}: {problem or 'Zammad takes it.'}")
        return not problem

    # Small things

    def _access(self) -> Access:
        return Access(self._dialogue, self._section("asterisk"), self._path.with_name(ACCOUNT_FILE))

    def _section(self, name: str) -> dict[str, Any]:
        section: dict[str, Any] = self._values.setdefault(name, {})
        return section

    def _tell_reasons(self, title: str, judgements: list[Judgement]) -> None:
        if not judgements:
            return
        self._dialogue.say(f"\n{title}:")
        rows = [
            (shown(one.endpoint.channel), shown(one.reason), "" if one.sure else " (a guess)") for one in judgements
        ]
        width = max(len(channel) for channel, _, _ in rows)
        for channel, reason, guess in rows:
            self._dialogue.say(f"  {channel.ljust(width)}  {reason}{guess}")


async def _try(endpoint: ZammadEndpoint) -> str:
    """Return what is wrong with the endpoint and what to do; empty if Zammad takes it."""
    async with ZammadClient(endpoint) as client:
        result = await client.check()
    return "" if result.ok else f"{result.problem.rstrip('.')}. {result.remedy}"


def _some(names: Iterable[str]) -> str:
    printable = [shown(name) for name in names]
    more = len(printable) - _NAMES_SHOWN
    return ", ".join(printable[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
