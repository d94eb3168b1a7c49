"""Settings: sources, defaults, and errors that say what to change and where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ami2zammad.calls.sides import DEFAULT_TRUNK_CONTEXTS
from ami2zammad.settings import DEFAULT_CONFIG, ConfigurationError, Settings, load_settings, name_of, problems_of

URL = "https://zammad.example.com/api/v1/cti/t0ken-of-zammad"
LEAST = f"""
[asterisk]
username = "zammad"
secret = "s3cret-of-ami"
[zammad]
url = "{URL}"
"""


def load(path: Path, text: str = LEAST, **environ: str) -> Settings:
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environ=environ, secret_directories=[])


def problems(path: Path, text: str, secret_directories: tuple[Path, ...] = (), **environ: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environ=environ, secret_directories=secret_directories)
    assert "s3cret-of-ami" not in str(caught.value)
    assert "t0ken-of-zammad" not in str(caught.value)
    return list(caught.value.problems)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "ami2zammad.toml"


def test_the_defaults_are_those_of_the_documentation(config: Path) -> None:
    settings = load(config)
    assert settings.instance == ""
    assert (settings.asterisk.host, settings.asterisk.port) == ("127.0.0.1", 5038)
    assert (settings.asterisk.tls, settings.asterisk.ca_file, settings.asterisk.auth) == (False, None, "plain")
    assert settings.asterisk.trunks == ()
    assert settings.asterisk.trunk_contexts == DEFAULT_TRUNK_CONTEXTS
    assert (settings.asterisk.ping_interval, settings.asterisk.ping_timeout) == (10, 5)
    assert (settings.zammad.format, settings.zammad.timeout) == ("json", 5)
    assert (settings.zammad.verify_tls, settings.zammad.queue_as_to) == (True, False)
    assert (settings.calls.announce, settings.calls.settle) == ("ringing", 0.1)
    assert settings.calls.voicemail_applications == ("VoiceMail",)
    assert settings.calls.ignore_contexts == ()
    assert (settings.numbers.country, settings.numbers.outbound_prefix) == ("DE", "")
    assert settings.agents == ()
    assert (settings.log.level, settings.log.format) == ("info", None)


def test_the_environment_wins_over_the_file_and_secret_files_over_both(config: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "credentials"
    secrets.mkdir()
    (secrets / "ami2zammad_asterisk__secret").write_text("from a file\n", encoding="utf-8")
    (secrets / "unrelated").write_text("x", encoding="utf-8")
    config.write_text(LEAST, encoding="utf-8")
    environ = {
        "AMI2ZAMMAD_ASTERISK__SECRET": "from the environment",
        "AMI2ZAMMAD_ASTERISK__PORT": "5039",
        "AMI2ZAMMAD_ASTERISK__TRUNKS": '["PJSIP/trunk*"]',
        "AMI2ZAMMAD_ASTERISK__TLS": "true",
        "ami2zammad_numbers__country": "at",
        "CREDENTIALS_DIRECTORY": str(secrets),
    }
    settings = load_settings(config, environ=environ)
    assert settings.asterisk.secret.get_secret_value() == "from a file"
    assert settings.asterisk.username == "zammad"
    assert settings.asterisk.port == 5039
    assert settings.asterisk.trunks == ("PJSIP/trunk*",)
    assert settings.asterisk.tls is True
    assert settings.numbers.country == "AT"


def test_everything_may_come_from_the_environment() -> None:
    environ = {
        "AMI2ZAMMAD_ASTERISK__USERNAME": "zammad",
        "AMI2ZAMMAD_ASTERISK__SECRET": "[not json",
        "AMI2ZAMMAD_ZAMMAD__URL": URL,
        "AMI2ZAMMAD_AGENTS": '[{"extension": "100", "name": "Emma Taylor"}]',
    }
    settings = load_settings(DEFAULT_CONFIG, environ=environ, secret_directories=[])
    assert settings.asterisk.secret.get_secret_value() == "[not json"
    assert settings.agents[0].name == "Emma Taylor"


def test_all_problems_are_told_at_once_with_file_key_and_what_is_allowed(config: Path) -> None:
    text = """
instanc = "x"
[asterisk]
usernam = "zammad"
secret = "s3cret-of-ami"
port = 99999
auth = "digest"
[zammad]
url = "https://zammad.example.com/"
[calls]
settle = -1
[numbers]
country = "Germany"
outbound_prefix = "zero"
[[agents]]
extension = "100"
nam = "Emma"
"""
    found = problems(
        config, text, AMI2ZAMMAD_LOG__LEVEL="loud", AMI2ZAMMAD_ASTERSK__HOST="x", AMI2ZAMMAD_ZAMMAD__TIMOUT="3"
    )
    expected = [
        rf"{config}: instanc: unknown key; did you mean instance\?",
        rf"{config}: asterisk.usernam: unknown key; did you mean username\?",
        rf"{config}: asterisk.username: is missing; set it in {config} or as AMI2ZAMMAD_ASTERISK__USERNAME",
        rf"{config}: asterisk.port: must be less than or equal to 65535",
        rf"{config}: asterisk.auth: must be 'plain' or 'md5'",
        rf"{config}: zammad.url: must be the whole endpoint .* https://<your Zammad>/api/v1/cti/<token>",
        rf"{config}: calls.settle: must be greater than or equal to 0",
        rf"{config}: numbers.country: must be a country in two letters .*",
        rf"{config}: numbers.outbound_prefix: must match pattern .*",
        rf"{config}: agents\[1\].nam: unknown key; did you mean name\?",
        r"environment: log.level: must be 'debug', 'info', 'warning' or 'error'",
        r"environment: zammad.timout: unknown key; did you mean timeout\?",
        r"environment variable AMI2ZAMMAD_ASTERSK__HOST: no such setting; did you mean asterisk\?",
    ]
    for pattern in expected:
        assert [problem for problem in found if re.fullmatch(pattern, problem)], (pattern, found)
    assert len(found) == len(expected), found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "section [asterisk] is missing; it needs at least username and secret"),
        (LEAST + "[calls]\nannounce = 1", "calls.announce: must be 'ringing' or 'arrival'"),
        (LEAST.replace("zammad.example.com", ""), "must begin with https://"),
        (LEAST.replace("https", "ftp"), "must begin with https://"),
        (LEAST.replace("/t0ken-of-zammad", ""), "https://<your Zammad>/api/v1/cti/<token>"),
        (LEAST + "x = 1", "zammad.x: unknown key"),
        (LEAST.replace('"s3cret-of-ami"', '"s3cret-of-ami\\nAction: Hangup"'), "must not contain line breaks"),
        (LEAST.replace('"s3cret-of-ami"', '""'), "asterisk.secret: "),
        (LEAST.replace('"zammad"', '"a\\rb"'), "asterisk.username: must not contain line breaks"),
        ('instance = "a b"\n' + LEAST, "instance: may have letters"),
        ("[asterisk", "is not valid TOML"),
        (LEAST + '[[agents]]\nextension="1"\n[[agents]]\nextension="1"\n', "extension 1 is named more than once"),
    ],
)
def test_each_mistake_is_named(config: Path, text: str, complaint: str) -> None:
    assert complaint in "\n".join(problems(config, text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('trunks = "PJSIP/x"', 'asterisk.trunks: must be a list, such as ["one", "two"]'),
        ("host = 1", "asterisk.host: must be a text, in quotes"),
        ('tls = "perhaps"', "asterisk.tls: must be true or false"),
    ],
)
def test_mistakes_of_type_are_told_in_the_words_of_the_file(config: Path, text: str, complaint: str) -> None:
    assert f"{config}: {complaint}" in problems(config, LEAST.replace("[zammad]", f"{text}\n[zammad]"))


def test_a_section_that_is_none_and_an_agent_without_extension(config: Path) -> None:
    found = problems(config, 'log = "x"\n' + LEAST + '[[agents]]\nname = "Emma"\n')
    assert f"{config}: log: must be a section with keys" in found
    assert f"{config}: agents[1].extension: is missing; set it in {config}" in found


@pytest.mark.parametrize("port", ["99999", "x", "0"])
def test_a_url_with_an_impossible_port_is_no_url(config: Path, port: str) -> None:
    (found,) = problems(config, LEAST.replace("example.com/", f"example.com:{port}/"))
    assert "a port up to 65535" in found


def test_small_things_are_forgiven(config: Path) -> None:
    text = LEAST.replace("t0ken-of-zammad", "t0ken-of-zammad/").replace("[zammad]", 'ca_file = ""\n[zammad]')
    settings = load(config, text)
    assert settings.zammad.url.get_secret_value() == URL
    assert settings.asterisk.ca_file is None


def test_one_file_that_cannot_be_read_is_one_problem(tmp_path: Path, config: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path, environ={}, secret_directories=[])
    assert caught.value.problems == (f"{tmp_path}: is a directory; name the file in it",)
    assert len(problems(config, "[asterisk")) == 1
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, environ={}, secret_directories=[])
    assert len(caught.value.problems) == 1


def test_the_default_file_that_is_not_there_is_said_not_to_be_there() -> None:
    with pytest.raises(
        ConfigurationError, match=r"section \[asterisk\] is missing \(there is no such file\); it needs"
    ):
        load_settings(DEFAULT_CONFIG, environ={}, secret_directories=[])


def test_a_secret_of_several_lines_is_named_with_its_origin(config: Path) -> None:
    found = problems(config, LEAST, AMI2ZAMMAD_ASTERISK__SECRET="a\nAction: Hangup")
    assert found == ["environment: asterisk.secret: must not contain line breaks or other control characters"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.toml"
    with pytest.raises(ConfigurationError, match="no such file; name the right one with --config"):
        load_settings(missing, environ={}, secret_directories=[])


def test_a_variable_that_is_no_json_is_named_without_its_value(config: Path) -> None:
    (found,) = problems(config, LEAST, AMI2ZAMMAD_ASTERISK__TRUNKS="PJSIP/s3cret-of-ami")
    assert found.startswith("environment variable AMI2ZAMMAD_ASTERISK__TRUNKS: must be JSON")


def test_secrets_do_not_show(config: Path) -> None:
    settings = load(config)
    assert "s3cret-of-ami" not in repr(settings)
    assert "t0ken-of-zammad" not in repr(settings)
    assert settings.secrets() == ("s3cret-of-ami", URL, "t0ken-of-zammad")


_toml_values: st.SearchStrategy[Any] = st.sampled_from(
    ["1", '"x"', "true", "[]", "{}", "[1]", "1.5", '""', "2026-01-01"]
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["asterisk", "zammad", "calls", "numbers", "log", "nonsense"]),
            st.sampled_from(["host", "port", "url", "trunks", "settle", "country", "level", "x"]),
            _toml_values,
        ),
        max_size=6,
        unique_by=lambda line: line[:2],
    )
)
def test_any_file_gives_settings_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str, str]]
) -> None:
    config = tmp_path_factory.getbasetemp() / "any.toml"
    config.write_text("".join(f"{section}.{key} = {value}\n" for section, key, value in lines), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, environ={}, secret_directories=[])
    assert all(caught.value.problems)


def test_single_values_can_be_asked_about() -> None:
    values = {
        "asterisk": {"port": "s3cret-of-ami", "prot": 1},
        "agents": [{"extension": "100"}, {"name": "Emma"}],
        "ops": {"token": "t0ken-of-zammad"},
    }
    found = problems_of(values)
    assert {name_of(place) for place in found} == {"asterisk.port", "asterisk.prot", "agents[2].extension", "ops.token"}
    assert found["agents", "1", "extension"] == "is missing"
    assert found["asterisk", "prot"] == "unknown key; did you mean port?"
    assert "s3cret-of-ami" not in str(found)
    assert "t0ken-of-zammad" not in str(found)
    assert problems_of({"asterisk": {"port": 5038}}) == {}
