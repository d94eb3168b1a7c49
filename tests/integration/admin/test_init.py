"""`init` against a PBX and a Zammad that are none, with real connections: what it writes, says, and never does."""

from __future__ import annotations

import asyncio
import builtins
import getpass
import io
import os
import ssl
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trustme

from ami2zammad.admin.access import CannotInitError, NotReadyError
from ami2zammad.admin.account import Account
from ami2zammad.admin.dialogue import Dialogue
from ami2zammad.admin.init import ACCOUNT_FILE, Wishes, init
from ami2zammad.cli import FAILED, FINE, USAGE, main
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from ami2zammad.settings import Settings, load_settings
from tests.integration.admin.conftest import SECRET, endpoint, furnish, member
from tests.terminal import Terminal

TOKEN = "t0ken-of-zammad"
Answers = Sequence[str | BaseException]


@pytest.fixture
async def zammad() -> AsyncIterator[ZammadSandbox]:
    async with ZammadSandbox(token=TOKEN) as sandbox:
        yield sandbox


def load(config: Path) -> Settings:
    return load_settings(config, environ={}, secret_directories=[])


def files(config: Path) -> list[str]:
    return sorted(path.name for path in config.parent.iterdir()) if config.parent.exists() else []


class Run:
    """One run of the command line, in a thread of its own, as the sandboxes need this one's loop."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err
        assert SECRET not in out + err
        assert TOKEN not in out + err


async def run(capsys: pytest.CaptureFixture[str], config: Path, *arguments: str, pbx: PbxSandbox | None = None) -> Run:
    port = ["--port", str(pbx.port)] if pbx is not None else []
    capsys.readouterr()
    code = await asyncio.to_thread(main, ["init", "--config", str(config), *port, *arguments])
    return Run(code, *capsys.readouterr())


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, zammad: ZammadSandbox) -> None:
    monkeypatch.setenv("AMI2ZAMMAD_ASTERISK__SECRET", SECRET)
    monkeypatch.setenv("AMI2ZAMMAD_ZAMMAD__URL", zammad.url)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not say in which country it is."""
    for name in ("TZ", "LANG", "LC_ALL", "LC_TELEPHONE", "LC_ADDRESS"):
        monkeypatch.setenv(name, "C")


# With nobody there to ask


@pytest.mark.usefixtures("secrets")
async def test_it_writes_settings_that_work(pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = await run(capsys, config, "--country", "at", "--outbound-prefix", "0", pbx=pbx)
    assert result.code == FINE, result.out + result.err
    settings = load(config)
    assert settings.asterisk.trunks == ("PJSIP/sipgate",)
    assert [(agent.extension, agent.name) for agent in settings.agents] == [
        ("100", "Emma Taylor"),
        ("101", "Christopher Miller"),
    ]
    assert (settings.numbers.country, settings.numbers.outbound_prefix) == ("AT", "0")
    assert settings.asterisk.secret.get_secret_value() == SECRET
    assert files(config) == ["ami2zammad.toml"]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    for words in (
        "PJSIP/sipgate  its calls come in by context from-pstn",
        "support: Emma Taylor",
        "where Asterisk registers (write = reporting)",
        "Agents: 2, 1 of them in queues",
        "✓  trunk        PJSIP/sipgate is PJSIP/sipgate",
        "✓  Zammad",
        "All is well",
    ):
        assert words in result.out
    assert "\x1b" not in result.out


async def test_secrets_may_come_from_files(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "url").write_text(f"{zammad.url}\n", encoding="utf-8")
    given = ["--secret-file", str(tmp_path / "secret"), "--url-file", str(tmp_path / "url")]
    result = await run(capsys, config, "--country", "DE", *given, pbx=pbx)
    assert result.code == FINE, result.out + result.err
    assert load(config).zammad.url.get_secret_value() == zammad.url


@pytest.mark.usefixtures("secrets")
async def test_what_is_said_goes_before_what_is_found(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--trunk", "sipgate", "--trunk", "PJSIP/tele*", "--agents", "queues"]
    result = await run(capsys, config, "--country", "DE", *given, pbx=pbx)
    # One of the trunks does not exist: check says so.
    assert result.code == FAILED
    assert "✗  trunk        PJSIP/tele* matches no device" in result.out
    assert f"Mend what is marked, then: ami2zammad check --config {config}" in result.out
    settings = load(config)
    assert settings.asterisk.trunks == ("PJSIP/sipgate", "PJSIP/tele*")
    assert [agent.extension for agent in settings.agents] == ["100"]


@pytest.mark.usefixtures("secrets")
async def test_names_of_any_kind(pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pbx.variables |= endpoint("100", "from-internal", '"Zoë "Q\\" \x1b[31m Müller"" <100>')
    pbx.variables["DIALPLAN_EXISTS(from-dahdi)"] = "1"
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FINE, result.out + result.err
    settings = load(config)
    assert settings.agents[0].name == 'Zoë "Q"  [31m Müller"'
    assert settings.asterisk.trunk_contexts[-1] == "from-dahdi"
    assert "\x1b" not in result.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nobody can be asked, so these must be given: the country of the numbers (--country)"),
        (["--country", "Germany"], "--country must be a country in two letters"),
        (["--country", "DE", "--port", "0"], "--port must be greater than or equal to 1"),
        (["--country", "DE", "--outbound-prefix", "x"], "--outbound-prefix must match pattern"),
        (["--country", "DE", "--username", "a]"], "--username must not contain brackets"),
        (["--country", "DE", "--host", ""], "--host must have at least 1 character"),
        (["--country", "DE", "--trunk", "a\nb"], "--trunk must not contain line breaks"),
        (["--country", "DE", "--url-file", "/no/such/file"], "--url-file /no/such/file: cannot be read"),
        (["--country", "DE", "--secret-file", "/dev/null"], "--secret-file /dev/null: must not be empty"),
        (["--country", "DE", "--url-file", "/dev/null"], "--url-file /dev/null: must begin with https://"),
    ],
)
@pytest.mark.usefixtures("secrets", "nowhere")
async def test_what_cannot_be_done_is_told_before_anything_is_done(  # noqa: PLR0917 - fixtures are named by pytest
    arguments: list[str],
    complaint: str,
    pbx: PbxSandbox,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TZ", "LANG", "LC_ALL", "LC_TELEPHONE", "LC_ADDRESS"):
        monkeypatch.setenv(name, "C")
    result = await run(capsys, config, *arguments, pbx=pbx if "--port" not in arguments else None)
    assert result.code == USAGE
    assert complaint in result.err
    assert files(config) == []
    assert pbx.connections == 0


async def test_without_an_endpoint_it_says_how_to_give_it(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == USAGE
    assert "Zammad's endpoint (--url-file or AMI2ZAMMAD_ZAMMAD__URL)" in result.err
    assert files(config) == []


async def test_a_folder_that_cannot_be_written_to_is_told_at_once(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, and tests often run as root.
    monkeypatch.setattr(os, "access", lambda *_: False)
    result = await run(capsys, config)
    assert result.code == USAGE
    assert f"{config.parent.parent} cannot be written to; run init as root" in result.err


async def test_a_place_that_cannot_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a directory" in (await run(capsys, tmp_path)).err
    (tmp_path / "file").touch()
    assert "file cannot be written to" in (await run(capsys, tmp_path / "file" / "x.toml")).err


# A file that is there


@pytest.mark.usefixtures("secrets")
async def test_an_existing_file_is_never_replaced_without_being_told_to(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.parent.mkdir()
    config.write_text("# by hand\n", encoding="utf-8")
    before = config.stat()
    for more in ([], ["--yes"]):
        result = await run(capsys, config, "--country", "DE", *more, pbx=pbx)
        assert result.code == USAGE
        assert f"{config} exists already; --force replaces it" in result.err
    assert config.read_text(encoding="utf-8") == "# by hand\n"
    assert config.stat().st_mtime_ns == before.st_mtime_ns
    assert files(config) == ["ami2zammad.toml"]
    assert pbx.connections == 0


async def test_what_an_existing_file_says_is_taken_over(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.parent.mkdir()
    old = f"""
# by hand
instance = "pbx1"
[asterisk]
username = "ami2zammad"
secret = "{SECRET}"
trunks = ["PJSIP/sip*"]
prot = 1
[zammad]
url = "{zammad.url}"
queue_as_to = true
[numbers]
country = "CH"
[[agents]]
extension = "101"
answering_number = "cm@example.com"
"""
    config.write_text(old, encoding="utf-8")
    result = await run(capsys, config, "--force", pbx=pbx)
    assert result.code == FINE, result.out + result.err
    settings = load(config)
    assert (settings.instance, settings.zammad.queue_as_to, settings.numbers.country) == ("pbx1", True, "CH")
    # The glob covers what was found; of the agents nobody was added unasked, but a name was.
    assert settings.asterisk.trunks == ("PJSIP/sip*",)
    assert [agent.model_dump() for agent in settings.agents] == [
        {"extension": "101", "name": "Christopher Miller", "answering_number": "cm@example.com", "number": ""}
    ]
    assert "left out: asterisk.prot: unknown key; did you mean port?" in result.out
    backup = config.with_name("ami2zammad.toml.bak")
    assert backup.read_text(encoding="utf-8") == old
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert str(backup) in result.out

    result = await run(capsys, config, "--force", "--agents", "all", pbx=pbx)
    assert result.code == FINE
    assert [agent.extension for agent in load(config).agents] == ["101", "100"]


@pytest.mark.usefixtures("secrets")
async def test_what_a_fuller_account_found_stays(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pbx.listings["sippeers"] = [{"Event": "PeerEntry", "ObjectName": "acme", "Dynamic": "no"}]
    pbx.variables |= {"SIPPEER(acme,context)": "incoming", "SIPPEER(acme,dynamic)": "no"}
    pbx.answers["command"] = lambda _: [{"Response": "Success"}]
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FINE, result.out + result.err
    assert "It may do more than the bridge needs (Command)" in result.out
    pbx.denied |= {"sippeers", "command"}
    result = await run(capsys, config, "--force", pbx=pbx)
    assert result.code == FINE, result.out + result.err
    assert "more than the bridge needs" not in result.out
    assert load(config).asterisk.trunks == ("PJSIP/sipgate", "SIP/acme")


@pytest.mark.usefixtures("secrets")
async def test_a_file_that_is_no_toml_gives_nothing_and_is_kept(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.parent.mkdir()
    config.write_bytes(b"\xffnonsense")
    result = await run(capsys, config, "--force", "--country", "DE", pbx=pbx)
    assert result.code == FINE, result.out + result.err
    assert "nothing is taken over from it" in result.out
    assert config.with_name("ami2zammad.toml.bak").read_bytes() == b"\xffnonsense"


# An account that is missing


async def test_a_refused_login_says_how_to_make_the_account_and_the_next_run_carries_on(
    pbx: PbxSandbox,
    zammad: ZammadSandbox,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AMI2ZAMMAD_ZAMMAD__URL", zammad.url)
    monkeypatch.setenv("AMI2ZAMMAD_ASTERISK__SECRET", "wr0ng-secret")
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FAILED
    assert 'Asterisk refused the login of "ami2zammad"' in result.out
    assert "manager reload" in result.out
    assert "no settings were written" in result.err
    assert "wr0ng-secret" not in result.out + result.err
    assert files(config) == [ACCOUNT_FILE]
    file = config.with_name(ACCOUNT_FILE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    account = Account.parse(file.read_text(encoding="utf-8"))
    assert account is not None
    # A pipe's other end may be a log: the secret is in the file only.
    assert account.secret not in result.out + result.err
    assert f"secret = <see {file}>" in result.out

    # Not yet done: the same account is asked for, not another one.
    monkeypatch.delenv("AMI2ZAMMAD_ASTERISK__SECRET")
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FAILED
    assert Account.parse(file.read_text(encoding="utf-8")) == account

    pbx._secret = account.secret
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FINE, result.out + result.err
    assert load(config).asterisk.secret.get_secret_value() == account.secret
    assert account.secret not in result.out
    assert files(config) == ["ami2zammad.toml"]


async def test_without_a_secret_there_is_no_account_yet(
    pbx: PbxSandbox,
    zammad: ZammadSandbox,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AMI2ZAMMAD_ZAMMAD__URL", zammad.url)
    result = await run(capsys, config, "--country", "DE", "--username", "bridge", pbx=pbx)
    assert result.code == FAILED
    assert "[bridge]" in result.out
    assert pbx.connections == 0
    # Another name needs another account.
    result = await run(capsys, config, "--country", "DE", "--username", "other", pbx=pbx)
    account = Account.parse(config.with_name(ACCOUNT_FILE).read_text(encoding="utf-8"))
    assert account is not None
    assert account.username == "other"


@pytest.mark.usefixtures("secrets")
async def test_another_account_has_another_secret(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await run(capsys, config, "--country", "DE", pbx=pbx)).code == FINE
    before, connections = config.read_bytes(), pbx.connections
    monkeypatch.delenv("AMI2ZAMMAD_ASTERISK__SECRET")
    result = await run(capsys, config, "--force", "--username", "bridge", pbx=pbx)
    assert result.code == FAILED
    assert "There is no secret yet" in result.out
    assert config.read_bytes() == before
    # Nobody was pestered with a secret that is not that account's.
    assert pbx.connections == connections


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(("queue", "expected"), [(True, ["100"]), (False, [])])
async def test_of_very_many_phones_only_those_in_queues_are_agents(
    queue: bool,  # noqa: FBT001 - a parameter of the test
    expected: list[str],
    pbx: PbxSandbox,
    config: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pbx.listings["devicestatelist"] += [
        {"Event": "DeviceStateChange", "Device": f"PJSIP/{number}"} for number in range(1000, 1100)
    ]
    if not queue:
        pbx.listings["queuestatus"] = []
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FINE, result.out
    assert [agent.extension for agent in load(config).agents] == expected


@pytest.mark.usefixtures("secrets")
async def test_nobody_listens(pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = pbx.port
    await pbx.close()
    result = await run(capsys, config, "--country", "DE", "--port", str(port))
    assert result.code == FAILED
    assert f"Nobody listens on 127.0.0.1:{port}" in result.out
    assert "enabled = yes" in result.out
    assert "[ami2zammad]" in result.out
    assert "no settings were written" in result.err
    # The secret that was given may be right: the account has it.
    account = Account.parse(config.with_name(ACCOUNT_FILE).read_text(encoding="utf-8"))
    assert account == Account("ami2zammad", SECRET)
    assert files(config) == [ACCOUNT_FILE]


@pytest.mark.usefixtures("secrets")
async def test_a_stranger_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with PbxSandbox() as stranger:
        stranger.greeting = b"SSH-2.0-OpenSSH_9.2\r\n"
        result = await run(capsys, config, "--country", "DE", pbx=stranger)
    assert result.code == FAILED
    assert "is no Asterisk manager interface: an SSH server answers" in result.out
    assert files(config) == []


@pytest.mark.usefixtures("secrets")
async def test_zammad_that_does_not_take_it_is_a_cross_of_check(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zammad.tokens = {"another"}
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FAILED
    assert "✗  Zammad" in result.out
    assert files(config) == ["ami2zammad.toml"]


@pytest.mark.usefixtures("secrets")
async def test_variables_that_cannot_be_used_are_told_after_writing(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMI2ZAMMAD_ASTERISK__PROT", "1")
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FAILED
    assert "asterisk.prot: unknown key; did you mean port?" in result.out


# With somebody there


class Screen(io.StringIO):
    """What a person sees."""

    def isatty(self) -> bool:
        return True


async def converse(monkeypatch: pytest.MonkeyPatch, wishes: Wishes, answers: Answers) -> tuple[bool, str]:
    """Give the answers, in order; return the result and all that was asked and said."""
    screen, waiting = Screen(), list(answers)

    def answer(question: str) -> str:
        screen.write(f"{question}")
        if not waiting:
            raise AssertionError(f"an answer is missing: {screen.getvalue()}")
        given = waiting.pop(0)
        if isinstance(given, BaseException):
            raise given
        screen.write("\n")
        return given

    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setattr(getpass, "getpass", answer)
    dialogue = Dialogue(interactive=True, output=screen)
    environ = {"LANG": "de_AT.UTF-8", "TZ": "UTC"}
    try:
        fine = await asyncio.to_thread(init, wishes, dialogue, environ)
    except (CannotInitError, NotReadyError) as error:
        screen.write(f"\n{type(error).__name__}: {error}\n")
        fine = False
    assert not waiting, f"not asked for: {waiting}\n{screen.getvalue()}"
    return fine, screen.getvalue()


async def test_a_conversation(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine, text = await converse(
        monkeypatch,
        Wishes(config=config),
        [
            "",  # host
            "x",  # port: no number
            str(pbx.port),
            "",  # account
            SECRET,
            "",  # trunks
            "some",  # agents: no such choice
            "queues",
            "Austria",  # country: no such
            "",
            "0",  # prefix
            "zammad.example.com",  # no endpoint
            zammad.url.replace(TOKEN, "wr0ng"),
            zammad.url,
            "",  # write
        ],
    )
    assert fine, text
    settings = load(config)
    assert settings.asterisk.trunks == ("PJSIP/sipgate",)
    assert [agent.extension for agent in settings.agents] == ["100"]
    assert (settings.numbers.country, settings.numbers.outbound_prefix) == ("AT", "0")
    for words in (
        "Host or address of Asterisk [127.0.0.1]: ",
        "That must be a valid integer",
        "Trunks, with commas between them (- for none) [PJSIP/sipgate]: ",
        "That must be one of all, queues, none.",
        "in two letters [AT]: ",
        "That must begin with https://",
        "Zammad takes it.",
        f"Write {config}? [Y/n]: ",
        "All is well",
    ):
        assert words in text
    assert SECRET not in text
    assert TOKEN not in text
    assert "wr0ng" not in text


async def test_what_the_command_line_says_is_not_asked_for(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("secret", SECRET), ("url", zammad.url)):
        (tmp_path / name).write_text(content, encoding="utf-8")
    wishes = Wishes(
        config=config,
        host="127.0.0.1",
        port=pbx.port,
        username="ami2zammad",
        secret_file=tmp_path / "secret",
        url_file=tmp_path / "url",
        trunks=("sipgate",),
        agents="none",
        country="de",
        outbound_prefix="",
    )
    fine, text = await converse(monkeypatch, wishes, ["y"])
    assert fine, text
    assert load(config).agents == ()


async def test_trunks_may_be_named_in_short(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = Wishes(config=config, port=pbx.port)
    for answer, trunks in (("sipgate , PJSIP/1*,", ("PJSIP/sipgate", "PJSIP/1*")), ("-", ())):
        config.unlink(missing_ok=True)
        _, text = await converse(monkeypatch, wishes, ["", "", SECRET, answer, "none", "", "", zammad.url, ""])
        assert load(config).asterisk.trunks == trunks
        assert ("No trunk: only the contexts" in text) is (not trunks)


async def test_an_account_is_made_on_the_way(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = Wishes(config=config, host="127.0.0.1", port=pbx.port)
    # Not there yet, and not there yet; then another one that exists already.
    answers = ["", "", "", "", SECRET, "", "none", "", "", zammad.url, ""]
    fine, text = await converse(monkeypatch, wishes, answers)
    assert fine, text
    assert text.count("Asterisk needs an account for the bridge") == 3
    # On a terminal the whole of it is shown, to be copied; the account that was made in vain stays until it is of use.
    account = Account.parse(config.with_name(ACCOUNT_FILE).read_text(encoding="utf-8"))
    assert account is not None
    assert f"secret = {account.secret}" in text
    assert load(config).asterisk.secret.get_secret_value() == SECRET

    pbx._secret = account.secret
    answers = ["y", "", "", "none", "", "", "", ""]
    fine, text = await converse(monkeypatch, wishes, answers)
    assert fine, text
    assert "The account's secret is that of" in text
    assert files(config) == ["ami2zammad.toml", "ami2zammad.toml.bak"]


async def test_where_asterisk_is_can_be_mended(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with PbxSandbox() as stranger:
        stranger.greeting = b"SSH-2.0-OpenSSH_9.2\r\n"
        answers = ["", SECRET, "", str(pbx.port), "", "none", "", "", zammad.url, ""]
        wishes = Wishes(config=config, host="127.0.0.1", port=stranger.port)
        fine, text = await converse(monkeypatch, wishes, answers)
    assert fine, text
    assert "an SSH server answers" in text
    assert load(config).asterisk.port == pbx.port


async def test_tls_is_found_out(
    zammad: ZammadSandbox, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    async with PbxSandbox(secret=SECRET, tls=context) as pbx:
        furnish(pbx)
        answers = ["", SECRET, "y", str(tmp_path / "ca.pem"), "", "none", "", "", zammad.url, ""]
        fine, text = await converse(monkeypatch, Wishes(config=config, host="localhost", port=pbx.port), answers)
    assert fine, text
    assert "If it is the TLS one" in text or "expects TLS" in text
    assert "is not trusted" in text
    assert (load(config).asterisk.tls, load(config).asterisk.ca_file) == (True, tmp_path / "ca.pem")


async def test_a_zammad_that_is_down_is_taken_when_said_twice(
    pbx: PbxSandbox, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:1/api/v1/cti/t0ken-of-zammad"
    answers = ["", SECRET, "", "none", "", "", url, "", ""]
    fine, text = await converse(monkeypatch, Wishes(config=config, host="127.0.0.1", port=pbx.port), answers)
    assert not fine
    assert load(config).zammad.url.get_secret_value() == url
    assert TOKEN not in text


async def test_no_means_no(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = Wishes(config=config, host="127.0.0.1", port=pbx.port)
    fine, text = await converse(monkeypatch, wishes, ["", SECRET, "", "none", "", "", zammad.url, "n"])
    assert not fine
    assert "NotReadyError: no settings were written" in text
    assert files(config) == []

    config.parent.mkdir()
    config.write_text("# by hand\n", encoding="utf-8")
    fine, text = await converse(monkeypatch, wishes, ["no"])
    assert f"CannotInitError: {config} was left as it is" in text
    fine, text = await converse(monkeypatch, wishes, [""])
    assert f"CannotInitError: {config} was left as it is" in text
    assert config.read_text(encoding="utf-8") == "# by hand\n"


async def test_it_may_be_left_at_any_question(
    pbx: PbxSandbox, zammad: ZammadSandbox, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.parent.mkdir()
    config.write_text("# by hand\n", encoding="utf-8")
    answers = ["y", "", str(pbx.port), "", SECRET, "", "none", "", "", zammad.url, ""]
    for position in range(len(answers)):
        for leave in (KeyboardInterrupt(), EOFError()):
            if isinstance(leave, KeyboardInterrupt):
                with pytest.raises(KeyboardInterrupt):
                    await converse(monkeypatch, Wishes(config=config), [*answers[:position], leave])
            else:
                _, text = await converse(monkeypatch, Wishes(config=config), [*answers[:position], leave])
                assert "the input ended before the last question: no settings were written" in text
            assert config.read_text(encoding="utf-8") == "# by hand\n"
            assert files(config) == ["ami2zammad.toml"]


# On a real terminal, as a process of its own


async def test_a_person_at_a_terminal(pbx: PbxSandbox, zammad: ZammadSandbox, config: Path) -> None:
    async with Terminal.run("init", "--config", str(config), environ={"TZ": "UTC", "LANG": "de_DE.UTF-8"}) as terminal:
        await terminal.expect("Host or address of Asterisk [127.0.0.1]: ")
        terminal.type("")
        await terminal.expect("Port of its manager interface [5038]: ")
        terminal.type(str(pbx.port))
        await terminal.expect("Account in its manager.conf [ami2zammad]: ")
        terminal.type("")
        await terminal.expect("Secret of ami2zammad (Enter: there is no such account yet): ")
        terminal.type(SECRET)
        await terminal.expect("Trunks, with commas between them (- for none) [PJSIP/sipgate]: ")
        terminal.type("")
        await terminal.expect("all, queues (those in queues), none [all]: ")
        terminal.type("")
        await terminal.expect("in two letters [DE]: ")
        terminal.type("")
        await terminal.expect("(- for nothing) [-]: ")
        terminal.type("0")
        await terminal.expect("Endpoint (https://...): ")
        terminal.type(zammad.url)
        await terminal.expect("/api/v1/cti/***: Zammad takes it.")
        await terminal.expect(f"Write {config}? [Y/n]: ")
        terminal.type("")
        await terminal.expect("All is well.")
        assert await terminal.ended() == FINE
    assert SECRET not in terminal.screen
    assert TOKEN not in terminal.screen
    assert load(config).numbers.outbound_prefix == "0"
    assert [agent.extension for agent in load(config).agents] == ["100", "101"]


async def test_ctrl_c_at_a_terminal(pbx: PbxSandbox, config: Path) -> None:
    for question in ("Host or address", "Secret of", "Trunks,"):
        async with Terminal.run("init", "--config", str(config), "--port", str(pbx.port)) as terminal:
            await terminal.expect("Host or address")
            if question != "Host or address":
                terminal.type("")
                await terminal.expect("Account in")
                terminal.type("")
                await terminal.expect("Secret of")
            if question == "Trunks,":
                terminal.type(SECRET)
                await terminal.expect("Trunks,")
            assert await terminal.interrupt() == FAILED
            assert "Stopped: no settings were written." in terminal.screen
            assert "Traceback" not in terminal.screen
        assert files(config) == []


async def test_ctrl_c_while_asterisk_keeps_it_waiting(pbx: PbxSandbox, config: Path) -> None:
    pbx.stall()
    async with Terminal.run(
        "init", "--config", str(config), "--port", str(pbx.port), "--host", "127.0.0.1"
    ) as terminal:
        await terminal.expect("Account in")
        terminal.type("")
        await terminal.expect("Secret of")
        terminal.type(SECRET)
        await pbx.wait_for(lambda: bool(pbx.actions))
        assert await terminal.interrupt() == FAILED
        assert "Stopped: no settings were written." in terminal.screen
        assert "Traceback" not in terminal.screen
    assert files(config) == []


@pytest.mark.usefixtures("secrets")
async def test_members_without_a_phone_are_told(
    pbx: PbxSandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pbx.listings["queuestatus"].append(member("support", "", "Local/102@from-queue/n", "hint:102@ext-local"))
    result = await run(capsys, config, "--country", "DE", pbx=pbx)
    assert result.code == FAILED
    assert "support: Local/102@from-queue/n, Emma Taylor" in result.out
    assert "102 : no such device" in result.out
