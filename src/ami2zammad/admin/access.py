"""How `init` gets into Asterisk: with the account that there is, or with one that the administrator makes for it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

from ami2zammad.admin.account import Account, name_problem
from ami2zammad.admin.dialogue import Dialogue, shown
from ami2zammad.admin.proposal import OUTSIDE_CONTEXTS
from ami2zammad.admin.settings_file import complaint, write_private
from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.errors import (
    AsteriskError,
    CaFileUnusable,
    CertificateNotTrusted,
    ClosedBeforeGreeting,
    ConnectionRefused,
    LoginRefused,
    PeerSpeaksTls,
)
from ami2zammad.asterisk.survey import Survey, survey

SECRET_VARIABLE: Final = "AMI2ZAMMAD_ASTERISK__SECRET"  # noqa: S105 - a variable's name

_DEFAULT_USERNAME: Final = "ami2zammad"
_DEFAULT_HOST: Final = "127.0.0.1"
_DEFAULT_PORT: Final = 5038


class CannotInitError(Exception):
    """What was asked for cannot be done; no settings were written."""


class NotReadyError(Exception):
    """Something has to be done first; no settings were written."""


class Access:
    """Finds out how to log in; `asterisk` is the section of the settings that says so in the end.

    `account_file` holds the account that Asterisk still lacks: the next `init` takes its secret, then the file goes.
    """

    def __init__(self, dialogue: Dialogue, asterisk: dict[str, Any], account_file: Path) -> None:
        self._dialogue = dialogue
        self._asterisk = asterisk
        self._account_file = account_file

    def ask(self, *, host: bool, port: bool, username: bool) -> None:
        """Ask for these; what is known is the default, and stays where nothing is asked."""
        asterisk, dialogue = self._asterisk, self._dialogue
        asterisk.setdefault("host", _DEFAULT_HOST)
        asterisk.setdefault("port", _DEFAULT_PORT)
        if host:
            asterisk["host"] = dialogue.ask(
                "Host or address of Asterisk", asterisk["host"], complaint("asterisk", "host")
            )
        if port:
            answer = dialogue.ask("Port of its manager interface", str(asterisk["port"]), complaint("asterisk", "port"))
            asterisk["port"] = int(answer)
        if username:
            pending = self._pending()
            default = asterisk.get("username") or (pending.username if pending else _DEFAULT_USERNAME)
            accepts = complaint("asterisk", "username", name_problem)
            self.take_username(dialogue.ask("Account in its manager.conf", default, accepts))

    def take_username(self, username: str) -> None:
        """Use this account; the secret that is known is another's, unless it is the same account."""
        if self._asterisk.get("username") != username:
            self._asterisk.pop("secret", None)
        self._asterisk["username"] = username

    def look(self, secret: str) -> tuple[Survey, set[str]]:
        """Log in, however often it takes; return what there is, and which actions the account may run.

        Raises NotReadyError if something is in the way and there is nobody to ask.
        """
        asterisk, dialogue = self._asterisk, self._dialogue
        asterisk["secret"] = secret or self._known_secret() or self._make_account("There is no secret yet.")
        while True:
            dialogue.say(f"\nLooking at Asterisk on {shown(asterisk['host'])}:{asterisk['port']} ...")
            try:
                return asyncio.run(_look(self._endpoint()))
            except LoginRefused as error:
                asterisk["secret"] = self._make_account(f"{error.problem}.\n{error.remedy}")
            except AsteriskError as error:
                self._overcome(error)

    def settle(self) -> None:
        """Forget the account that Asterisk lacked: it has it, and the settings hold its secret."""
        account = self._pending()
        if account is not None and account.secret == self._asterisk["secret"]:
            with contextlib.suppress(OSError):
                self._account_file.unlink()

    def _known_secret(self) -> str:
        asterisk, dialogue = self._asterisk, self._dialogue
        pending = self._pending()
        if pending is not None and pending.username == asterisk["username"]:
            dialogue.say(f"The account's secret is that of {self._account_file}.")
            return pending.secret
        username = shown(asterisk["username"])
        known: str = asterisk.get("secret", "")
        return known or dialogue.ask_secret(f"Secret of {username} (Enter: there is no such account yet)")

    def _overcome(self, error: AsteriskError) -> None:
        """Say what is in the way, and ask for what may help."""
        asterisk, dialogue = self._asterisk, self._dialogue
        dialogue.say(f"{error.problem}.\n{error.remedy}")
        if isinstance(error, ConnectionRefused):
            self._show(self._needed(asterisk["secret"]))
        if not dialogue.interactive:
            raise NotReadyError("Asterisk could not be asked: no settings were written; run init again afterwards")
        # A TLS port may also hang up on who speaks plainly, without a word.
        maybe_tls = isinstance(error, PeerSpeaksTls | ClosedBeforeGreeting) and not asterisk.get("tls")
        if maybe_tls and dialogue.confirm("Speak TLS with it?", default=isinstance(error, PeerSpeaksTls)):
            asterisk["tls"] = True
        elif isinstance(error, CertificateNotTrusted | CaFileUnusable):
            asterisk["ca_file"] = dialogue.ask("File with the certificates to trust", asterisk.get("ca_file", ""))
        else:
            dialogue.say("Once more, then:")
            self.ask(host=True, port=True, username=False)

    def _make_account(self, why: str) -> str:
        """Say how to make the account; return its secret when Asterisk has it, or another one that is typed."""
        dialogue = self._dialogue
        dialogue.say(why)
        account = self._needed("")
        self._show(account)
        if not dialogue.interactive:
            raise NotReadyError(
                "no settings were written: make the account, then run init again, without --secret-file and "
                f"{SECRET_VARIABLE} (it takes the secret of {self._account_file})"
            )
        typed = dialogue.ask_secret("Enter when Asterisk has the account; or type the secret that it has already")
        return typed or account.secret

    def _needed(self, secret: str) -> Account:
        """Return the account that Asterisk needs, the same each time, and keep it for the next init."""
        asterisk = self._asterisk
        account = self._pending()
        wanted = Account.new(asterisk["username"], asterisk["host"], asterisk["port"], secret=secret)
        if account is not None and account.username == wanted.username and account.addresses == wanted.addresses:
            return account
        try:
            write_private(self._account_file, wanted.snippet())
        except OSError as error:
            raise CannotInitError(f"{self._account_file}: {error.strerror}") from None
        return wanted

    def _pending(self) -> Account | None:
        try:
            return Account.parse(self._account_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None

    def _show(self, account: Account) -> None:
        say, file = self._dialogue.say, self._account_file
        # What is not a terminal is kept somewhere: no place for a secret.
        hidden = "" if self._dialogue.on_a_terminal else f"<see {file}>"
        say("\nAsterisk needs an account for the bridge:\n")
        for line in account.snippet(hidden=hidden).splitlines():
            say(f"    {line}")
        say(
            f"\nIt is also in {file}. On the PBX, as root (there, if that is another machine, paste it):\n\n"
            f"    plain Asterisk   install -o asterisk -m 0640 {file} /etc/asterisk/manager.d/ami2zammad.conf\n"
            f"    FreePBX          cat {file} >> /etc/asterisk/manager_custom.conf\n"
            "    then             asterisk -rx 'manager reload'\n\n"
            "manager.conf must say enabled = yes in [general], and include manager.d/*.conf (else paste it there).\n"
        )

    def _endpoint(self) -> AmiEndpoint:
        asterisk = self._asterisk
        ca_file = asterisk.get("ca_file", "")
        return AmiEndpoint(
            host=asterisk["host"],
            port=asterisk["port"],
            username=asterisk["username"],
            secret=asterisk["secret"],
            tls=asterisk.get("tls", False),
            ca_file=Path(ca_file) if ca_file else None,
            auth=asterisk.get("auth", "plain"),
        )


async def _look(endpoint: AmiEndpoint) -> tuple[Survey, set[str]]:
    session = await AmiSession.open(endpoint, lambda _: None)
    try:
        return await survey(session, OUTSIDE_CONTEXTS), await session.commands()
    finally:
        await session.close()
