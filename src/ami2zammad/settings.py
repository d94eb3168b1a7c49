"""Every setting, typed, with its default and its reason.

Three sources, the later over the earlier: the TOML file, the environment (`AMI2ZAMMAD_<SECTION>__<KEY>`), and files
that hold secrets (systemd's `$CREDENTIALS_DIRECTORY`, Docker's `/run/secrets`), named like the variables.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

DEFAULT_CONFIG: Final = Path("/etc/ami2zammad/ami2zammad.toml")
_PREFIX: Final = "AMI2ZAMMAD_"
_NESTED: Final = "__"
_DOCKER_SECRETS: Final = Path("/run/secrets")

RELOADED: Final = frozenset({"agents", "zammad", "log"})
"""The sections that SIGHUP reads again; the others need a restart."""


# What pydantic says in words of Python, by its kind of error.
_DEMANDS: Final = {
    "tuple_type": 'must be a list, such as ["one", "two"]',
    "string_type": "must be a text, in quotes",
    "model_type": "must be a section with keys",
    "model_attributes_type": "must be a section with keys",
    "dict_type": "must be a section with keys",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "path_type": "must be the name of a file, in quotes",
    "missing": "is missing",
}


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` says in one line each what to change, and where."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def _no_control_characters(value: str) -> str:
    if any(ord(character) < ord(" ") or ord(character) == 0x7F for character in value):  # noqa: PLR2004 DEL
        raise ValueError("must not contain line breaks or other control characters")
    return value


def _country(value: str) -> str:
    import phonenumbers  # noqa: PLC0415 - a second of start-up that `--help` need not pay

    value = value.upper()
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("must be a country in two letters (ISO 3166), such as DE, AT, CH, GB or US")
    return value


def _instance(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", value):
        raise ValueError("may have letters, digits, dot, dash and underscore, at most 64 of them")
    return value


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _listen(value: str) -> str:
    if value and not (
        re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:]+):[0-9]{1,5}", value) and int(value.rpartition(":")[2]) < 1 << 16
    ):
        raise ValueError("must be address:port, such as 127.0.0.1:4573, or empty to switch it off")
    return value


def _channel_of_number(value: str) -> str:
    if value.count("{number}") != 1 or "/" not in value or set("{}") & set(value.replace("{number}", "")):
        raise ValueError("must be a channel with {number} in it, such as PJSIP/{number}@trunk")
    return value


def _channel_of_extension(value: str) -> str:
    if value.count("{extension}") != 1 or "/" not in value or set("{}") & set(value.replace("{extension}", "")):
        raise ValueError("must be a channel with {extension} in it, such as PJSIP/{extension}")
    return value


def _cti_url(value: SecretStr) -> SecretStr:
    value = SecretStr(value.get_secret_value().rstrip("/"))
    complaint = "must begin with https:// (or http://), a host name and, if any, a port up to 65535"
    try:
        url = urlsplit(value.get_secret_value())
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        # Its own words would be about IPv6 and the like, and could repeat the token.
        raise ValueError(complaint) from None
    if not usable:
        raise ValueError(complaint)
    if not re.fullmatch(r".*/api/v1/cti/[^/]+", url.path) or url.query or url.fragment:
        raise ValueError(
            "must be the whole endpoint from Zammad's page Integrations > CTI (generic), "
            "https://<your Zammad>/api/v1/cti/<token>"
        )
    return value


def _one_line(value: SecretStr) -> SecretStr:
    _no_control_characters(value.get_secret_value())
    if not value.get_secret_value():
        raise ValueError("must not be empty")
    return value


Text = Annotated[str, AfterValidator(_no_control_characters)]
CertificateFile = Annotated[Path | None, BeforeValidator(_empty_is_none)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False)


class AsteriskSettings(_Section):
    """Where Asterisk's manager interface is, and which channels lead outside.

    Name the trunks by their channels (`trunks`) even where their contexts tell: after a restart the bridge sees
    channels in whatever context they are by then. A trunk that is not named makes its calls internal, and nothing is
    reported of those.
    """

    host: Text = Field(default="127.0.0.1", min_length=1, description="Host name or address of the PBX.")
    port: int = Field(
        default=5038, ge=1, le=65535, description="Port of the manager interface (5039 is usual with TLS)."
    )
    username: Text = Field(min_length=1, description="Name of the account in manager.conf.")
    secret: Annotated[SecretStr, AfterValidator(_one_line)] = Field(description="Secret of that account.")
    tls: bool = Field(default=False, description="Speak TLS; wanted wherever the PBX is another machine.")
    ca_file: CertificateFile = Field(
        default=None,
        description="Certificates to trust (PEM); the system's if empty.",
        examples=["/etc/ssl/certs/pbx.pem"],
    )
    auth: Literal["plain", "md5"] = Field(
        default="plain", description="md5 keeps the secret off the wire where there is no TLS."
    )
    trunks: tuple[Text, ...] = Field(
        default=(),
        description="Globs on the names of channels that lead outside, without their -0000001a suffix: PJSIP/trunk*.",
    )
    trunk_contexts: tuple[Text, ...] = Field(
        default=("from-trunk*", "from-pstn*", "from-did*", "from-external*", "from-provider*"),
        description="Likewise by globs on the context in which a trunk's channels are created.",
    )
    ping_interval: Seconds = Field(default=10.0, description="Seconds between two signs of life asked of Asterisk.")
    ping_timeout: Seconds = Field(
        default=5.0,
        description="Seconds without an answer to that until the connection counts as dead and is made anew.",
    )


class ZammadSettings(_Section):
    """Where Zammad is, and how it wants to be told.

    What to set up in Zammad itself is in [zammad.md](zammad.md).
    """

    url: Annotated[SecretStr, AfterValidator(_cti_url)] = Field(
        description="The whole endpoint of Integrations > CTI (generic); its last part is a token, a secret."
    )
    format: Literal["json", "form"] = Field(
        default="json", description="How events are written; json is what Zammad recommends."
    )
    timeout: Seconds = Field(
        default=5.0, description="Seconds that one request may take; it is tried again after that, nothing is lost."
    )
    ca_file: CertificateFile = Field(
        default=None,
        description="Certificates to trust (PEM); the system's if empty.",
        examples=["/etc/ssl/certs/zammad.pem"],
    )
    verify_tls: bool = Field(
        default=True, description="Check Zammad's certificate; false lets anybody in between read token and numbers."
    )
    queue_as_to: bool = Field(
        default=False,
        description="Send the queue's name as `to`: popups by Caller Log Filter with queue names need it.",
    )


class CallSettings(_Section):
    """When and how calls are told.

    What a call looks like in Zammad is in [calls.md](calls.md).
    """

    announce: Literal["ringing", "arrival"] = Field(
        default="ringing",
        description="Announce inbound calls when it is known whom they are for, or at once, without names (arrival).",
    )
    settle: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="Seconds to wait for the rest of a ring group before a call is announced, for all its names.",
    )
    voicemail_applications: tuple[Text, ...] = Field(
        default=("VoiceMail",),
        description="Dialplan applications that take messages: their calls stay on the agents' to-do list.",
    )
    unobserved_limit: Annotated[float, Field(ge=60, le=7 * 86400)] = Field(
        default=3600.0,
        description="Seconds without a connection to Asterisk after which calls that were up count as ended.",
    )
    ignore_contexts: tuple[Text, ...] = Field(
        default=(),
        description="Globs on the context in which a call begins: such calls are never told (fax, door phone).",
    )


class NumberSettings(_Section):
    """How this PBX writes telephone numbers.

    Zammad gets them in E.164 without `+`; the rules are in [calls.md](calls.md#numbers).
    """

    country: Annotated[str, AfterValidator(_country)] = Field(
        default="DE", description="What national numbers mean: a country in two letters (ISO 3166)."
    )
    outbound_prefix: Annotated[str, Field(pattern=r"^[0-9*#]{0,8}$")] = Field(
        default="", description="What is dialled before an outside number to get a line; it is taken off for Zammad."
    )


class AgentSettings(_Section):
    """One agent of the help desk.

    One `[[agents]]` block for each. Without any, agents are called what the PBX calls their devices, and
    `answeringNumber` is their extension.
    """

    extension: Text = Field(
        min_length=1, max_length=64, description="The agent's extension or endpoint name: 100 for PJSIP/100."
    )
    name: Text = Field(
        default="", max_length=250, description="The name to show; what the PBX calls the device if empty."
    )
    answering_number: Text = Field(
        default="",
        max_length=250,
        description="The phone field of the agent's user in Zammad: opens the profile there. The extension if empty.",
    )
    number: Text = Field(
        default="",
        max_length=64,
        description="The agent's own outside number: `from` of outbound calls. What the phone shows if empty.",
    )


class ControlSettings(_Section):
    """What Zammad's replies may do to live calls. All of it is off by default.

    How the dialplan takes part, and what happens to a call when something breaks, is in [dialplan.md](dialplan.md).
    """

    reject: bool = Field(
        default=False, description="Hang up (busy) on callers that Zammad blocks, if nobody has answered by then."
    )
    decision_timeout: Seconds = Field(
        default=3.0, description="Seconds that a call waits for Zammad at most; then it goes on as if not asked."
    )
    listen: Annotated[Text, AfterValidator(_listen)] = Field(
        default="",
        description="address:port of the FastAGI server that the dialplan asks; empty: none. Nobody else may reach it.",
    )
    emergency: tuple[Annotated[str, Field(pattern=r"^[0-9*#]{2,15}$")], ...] = Field(
        default=("110", "112", "911", "999"),
        description="Numbers that are never held and never changed; the country's own are known as well.",
    )
    caller_name: Text = Field(
        default="", max_length=80, description="Name to show with an overridden caller ID, instead of the agent's."
    )
    originate: bool = Field(
        default=False,
        description="Dial for a dialplan that says UserEvent(ZammadDial); the account then needs read = user.",
    )
    originate_channel: Annotated[Text, AfterValidator(_channel_of_number)] = Field(
        default="PJSIP/{number}@trunk", description="The channel that reaches an outside number; has {number} in it."
    )
    agent_channel: Annotated[Text, AfterValidator(_channel_of_extension)] = Field(
        default="PJSIP/{extension}",
        description="The channel that reaches an agent's phone (click to dial); has {extension} in it.",
    )


class OpsSettings(_Section):
    """The HTTP port for operators and for programs on the same network.

    What it shows, and to whom, is in [operations.md](operations.md).
    """

    listen: Annotated[Text, AfterValidator(_listen)] = Field(
        default="",
        description="address:port of the HTTP server; empty: none. It has no TLS: loopback, or a proxy in front.",
    )
    token: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description="Token for POST /dial and for the status page off loopback, 16 characters or more.",
        examples=["a-long-random-one"],
    )


class OutboxSettings(_Section):
    """Where events wait until Zammad has them, and for how long.

    The file holds numbers and names of calls that Zammad does not have yet, and the live calls; it is readable by the
    bridge's user only.
    """

    path: Annotated[Path | None, BeforeValidator(_empty_is_none)] = Field(
        default=Path("/var/lib/ami2zammad/outbox.db"),
        description="The file that keeps events and live calls over a restart; empty: in memory, lost at the end.",
    )
    limit: int = Field(
        default=100_000,
        ge=100,
        le=1_000_000,
        description="Events that wait at most; beyond that the oldest are set aside. A call has two or three.",
    )
    max_age: Annotated[float, Field(ge=60, le=30 * 86400)] = Field(
        default=86400.0,
        description="Seconds after which a call that Zammad has not heard of yet is set aside (`ami2zammad outbox`).",
    )
    drain_rate: Annotated[float, Field(gt=0, le=10_000)] = Field(
        default=100.0, description="Events a second that are caught up with after an outage; live calls go first."
    )
    shutdown_timeout: Annotated[float, Field(ge=0, le=600)] = Field(
        default=10.0,
        description="Seconds that a bridge that stops tries to deliver what waits; the rest goes out later.",
    )


class LogSettings(_Section):
    """What is logged, and how.

    All events are in [logs.md](logs.md).
    """

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines to log; the calls themselves are info."
    )
    format: Literal["json", "console"] | None = Field(
        default=None,
        description="json: one object a line. Without it: console on a terminal, else json.",
        examples=["json"],
    )


class Settings(BaseSettings):
    """All settings of one bridge."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter=_NESTED, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    instance: Annotated[str, AfterValidator(_instance)] = Field(
        default="", description="Name of this PBX; goes before every callId, so that several can share one Zammad."
    )
    asterisk: AsteriskSettings
    zammad: ZammadSettings
    calls: CallSettings = CallSettings()
    numbers: NumberSettings = NumberSettings()
    agents: tuple[AgentSettings, ...] = ()
    control: ControlSettings = ControlSettings()
    outbox: OutboxSettings = OutboxSettings()
    ops: OpsSettings = OpsSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _extensions_are_unique(self) -> Settings:
        extensions = [agent.extension for agent in self.agents]
        twice = sorted({extension for extension in extensions if extensions.count(extension) > 1})
        if twice:
            raise ValueError(f"agents: extension {', '.join(twice)} is named more than once")
        return self

    def secrets(self) -> tuple[str, ...]:
        """Return what must never be seen: the AMI secret, Zammad's token, the URL that holds it, the token of /dial."""
        url = self.zammad.url.get_secret_value()
        token = (self.ops.token.get_secret_value(),) if self.ops.token is not None else ()
        return self.asterisk.secret.get_secret_value(), url, url.rpartition("/")[2], *token

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - `load_settings` brings the environment
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing but what `load_settings` has read: it knows which file or variable each value is from."""
        del settings_cls
        return (init_settings,)


class _NamedValues(EnvSettingsSource):
    """Reads settings out of named texts: the environment, or secret files by their names."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name.lower(): text for name, text in values.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str]:
        return self._values


def load_settings(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    secret_directories: Sequence[Path] | None = None,
    fallback: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings from `path` (may be missing if it is the default), the environment and secret files.

    `secret_directories` defaults to systemd's and Docker's; `fallback` gives way to all of them.
    Raises `ConfigurationError` with every problem that there is.
    """
    environ = os.environ if environ is None else environ
    if secret_directories is None:
        credentials = environ.get("CREDENTIALS_DIRECTORY")
        secret_directories = [_DOCKER_SECRETS, *([Path(credentials)] if credentials else [])]
    problems: list[str] = []
    origins: dict[tuple[str, ...], str] = {}
    values: dict[str, Any] = {}
    _merge(values, fallback or {}, "default", origins)
    _merge(values, _read_toml(path, problems), str(path), origins)
    variables = {name: text for name, text in environ.items() if name.upper().startswith(_PREFIX)}
    _merge(values, _named(variables, "environment variable", problems), "environment", origins)
    for directory in secret_directories:
        secrets = _read_secrets(directory, problems)
        _merge(values, _named(secrets, f"file in {directory}:", problems), str(directory), origins)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        # A file that cannot be read is one mistake: what would have been in it is not missing as well.
        problems += _explain(error, origins, path, tell_missing=not any(p.startswith(f"{path}: ") for p in problems))
    else:
        if not problems:
            return settings
    # Without the chain: the values that pydantic keeps in its error may be secrets.
    raise ConfigurationError(problems) from None


def problems_of(values: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Return what is wrong with `values`, as a file would hold them, by place (see `name_of`).

    That keys are missing is no problem, except in a block of a list. No text repeats a value.
    """
    try:
        Settings(**values)
    except ValidationError as error:
        return {
            tuple(str(part) for part in detail["loc"]): _demand(detail)
            for detail in error.errors(include_url=False, include_input=False, include_context=True)
            if detail["type"] != "missing" or any(isinstance(part, int) for part in detail["loc"])
        }
    return {}


def _read_toml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        # Everything may come from the environment (containers); what is missing is then named one by one.
        if path != DEFAULT_CONFIG:
            problems.append(f"{path}: no such file; name the right one with --config")
    except IsADirectoryError:
        problems.append(f"{path}: is a directory; name the file in it")
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror}); check its owner and permissions")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: is not valid TOML: {error}")
    return {}


def _read_secrets(directory: Path, problems: list[str]) -> dict[str, str]:
    secrets: dict[str, str] = {}
    try:
        files = sorted(directory.iterdir()) if directory.is_dir() else []
    except OSError as error:
        problems.append(f"{directory}: cannot be read ({error.strerror}); check its owner and permissions")
        return secrets
    for file in files:
        # The unit hands the settings themselves over this way too: `ami2zammad.toml`.
        if not file.name.upper().startswith(_PREFIX) or not file.is_file():
            continue
        try:
            secrets[file.name] = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            problems.append(f"{file}: cannot be read ({reason})")
    return secrets


def _named(values: Mapping[str, str], kind: str, problems: list[str]) -> dict[str, Any]:
    """Return what texts named `AMI2ZAMMAD_SECTION__KEY` set; names that set nothing are problems."""
    sections = {name.lower() for name in Settings.model_fields}
    found: dict[str, Any] = {}
    for name, text in values.items():
        section = name[len(_PREFIX) :].lower().split(_NESTED)[0]
        if section not in sections:
            problems.append(f"{kind} {name}: no such setting{_did_you_mean(section, sections)}")
            continue
        try:
            _merge(found, _NamedValues({name: text})(), kind, {})
        except SettingsError:
            # Not chained: its text holds the value.
            problems.append(f'{kind} {name}: must be JSON, such as ["one", "two"] for a list')
    return found


def _merge(
    into: dict[str, Any],
    values: Mapping[str, Any],
    origin: str,
    origins: dict[tuple[str, ...], str],
    at: tuple[str, ...] = (),
) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            child = into.setdefault(key, {})
            if isinstance(child, dict):
                _merge(child, value, origin, origins, (*at, key))
                continue
        into[key] = value
        origins[*at, key] = origin


def _explain(
    error: ValidationError, origins: Mapping[tuple[str, ...], str], path: Path, *, tell_missing: bool
) -> list[str]:
    problems = []
    absent = "" if path.exists() else " (there is no such file)"
    # Under systemd the service reads a copy; what has to be edited is the file that it was made from.
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    file = DEFAULT_CONFIG if credentials and path.is_relative_to(credentials) else path
    for detail in error.errors(include_url=False, include_input=False, include_context=True):
        where = tuple(str(part) for part in detail["loc"])
        # Agents come as a list: `agents.2.name` is the third [[agents]].
        name = name_of(where)
        origin = _origin(where, origins) or str(file)
        in_list = any(part.isdigit() for part in where)
        variable = "" if in_list else f" or as {_PREFIX}{_NESTED.join(where).upper()}"
        match detail["type"]:
            case "missing" if not tell_missing:
                continue
            case "missing" if len(where) == 1:
                required = [key for key, field in _fields_of(where).items() if field.is_required()]
                text = f"section [{name}] is missing{absent}; it needs at least {' and '.join(required)}"
            case "missing":
                text = f"is missing; set it in {file}{variable}"
            case _:
                text = _demand(detail)
        problems.append(f"{origin}: {name}: {text}" if where else f"{origin}: {text}")
    return problems


def _demand(detail: ErrorDetails) -> str:
    """Say what to change, in words of the file."""
    where = tuple(str(part) for part in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown key{_did_you_mean(where[-1], _keys_beside(where))}"
        case "value_error":
            return str(detail["ctx"]["error"])
        case kind:
            return _DEMANDS.get(kind) or _sentence(detail["msg"])


def name_of(where: Sequence[str]) -> str:
    """Return a setting's name as an administrator says it: `asterisk.port`, `agents[2].name` (the second one)."""
    name = "".join(f"[{int(part) + 1}]" if part.isdigit() else f".{part}" for part in where)
    return name.removeprefix(".") or "settings"


def _origin(where: tuple[str, ...], origins: Mapping[tuple[str, ...], str]) -> str | None:
    for length in range(len(where), 0, -1):
        if where[:length] in origins:
            return origins[where[:length]]
    return None


def _sentence(message: str) -> str:
    """Turn pydantic's "Input should be …" into a demand."""
    return message.replace("Input should be", "must be").replace("String should", "must")


def _fields_of(where: Sequence[str]) -> Mapping[str, Any]:
    model: Any = Settings
    for part in where:
        if part.isdigit():
            continue
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            return {}
        model = field.annotation
        if get_origin(model) in {tuple, types.UnionType}:
            model = next((one for one in get_args(model) if isinstance(one, type)), None)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return model.model_fields
    return {}


def _keys_beside(where: Sequence[str]) -> set[str]:
    return set(_fields_of(where[:-1]))


def _did_you_mean(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""
