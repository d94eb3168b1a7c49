"""The file that `init` writes: complete, valid, private, and there as a whole or not at all."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from ami2zammad.admin.settings_file import UnreadableFileError, complaint, read_values, render, write, write_private
from ami2zammad.settings import ConfigurationError, Settings, load_settings

LEAST: dict[str, Any] = {
    "asterisk": {"username": "zammad", "secret": "s3cret-of-ami"},
    "zammad": {"url": "https://zammad.example.com/api/v1/cti/t0ken"},
}


def load(path: Path) -> Settings:
    return load_settings(path, environ={}, secret_directories=[])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "ami2zammad" / "ami2zammad.toml"


def test_only_what_differs_from_the_defaults_is_active() -> None:
    values = {
        **LEAST,
        "asterisk": {**LEAST["asterisk"], "host": "127.0.0.1", "port": 5039, "tls": False, "trunks": ["PJSIP/x*"]},
        "numbers": {"country": "DE", "outbound_prefix": "0"},
        "outbox": {"path": "/var/lib/ami2zammad/outbox.db"},
        "agents": [{"extension": "100", "name": "Emma Taylor", "number": ""}],
    }
    assert tomllib.loads(render(values)) == {
        "asterisk": {"username": "zammad", "secret": "s3cret-of-ami", "port": 5039, "trunks": ["PJSIP/x*"]},
        "zammad": LEAST["zammad"],
        "calls": {},
        "numbers": {"outbound_prefix": "0"},
        "agents": [{"extension": "100", "name": "Emma Taylor"}],
        "control": {},
        "outbox": {},
        "ops": {},
        "log": {},
    }


def test_every_setting_is_shown_with_its_description_and_what_is_a_comment_is_the_default(config: Path) -> None:
    text = render({**LEAST, "agents": [{"extension": "100"}]})
    for section in Settings.model_fields.values():
        kind = section.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for key, field in kind.model_fields.items():
                assert f"# {field.description}\n{key} = " in text or f"# {field.description}\n# {key} = " in text
    # Files and tokens have no default: what is shown is an example.
    shown = re.sub(r"^# ((?!ca_file|token)[a-z_]+ = )", r"\1", text, flags=re.MULTILINE)
    write(config, shown)
    explicit = load(config).model_dump()
    write(config, text)
    implicit = load(config).model_dump()
    assert (explicit["log"].pop("format"), implicit["log"].pop("format")) == ("json", None)
    assert explicit == implicit


@given(
    st.dictionaries(st.sampled_from(["host", "username", "secret", "ca_file"]), st.text(), min_size=1),
    st.lists(st.text(), max_size=4),
    st.lists(st.text(), max_size=4),
)
def test_any_text_comes_back_as_it_was(asterisk: dict[str, str], trunks: list[str], names: list[str]) -> None:
    agents = [{"extension": f"x{name}", "name": f"y{name}"} for name in names]
    found = tomllib.loads(render({"asterisk": {**asterisk, "trunks": trunks}, "agents": agents}))
    # Where nothing of the value is seen, it is the default.
    defaults = {"host": "127.0.0.1", "trunks": []}
    expected = {key: value for key, value in {**asterisk, "trunks": trunks}.items() if defaults.get(key) != value}
    assert found["asterisk"] == expected
    assert found.get("agents", []) == agents


def test_control_characters_do_not_get_into_the_file_as_they_are() -> None:
    text = render({**LEAST, "agents": [{"extension": "100", "name": "\x1b[2J\x7f\x85\u2028\ufeff\t\r\n"}]})
    assert text.replace("\n", "").isprintable()


def test_nobody_else_can_read_it(config: Path) -> None:
    umask = os.umask(0)
    try:
        write(config, render(LEAST))
        assert config.stat().st_mode & 0o777 == 0o600
        config.chmod(0o644)
        backup = write(config, render(LEAST))
    finally:
        os.umask(umask)
    assert backup is not None
    assert {path.stat().st_mode & 0o777 for path in config.parent.iterdir()} == {0o600}


def test_what_was_there_is_kept(config: Path) -> None:
    config.parent.mkdir()
    config.write_bytes(b"# my own \xff work\r\n")
    backup = write(config, render(LEAST))
    assert backup == config.with_name("ami2zammad.toml.bak")
    assert backup.read_bytes() == b"# my own \xff work\r\n"
    assert sorted(path.name for path in config.parent.iterdir()) == ["ami2zammad.toml", "ami2zammad.toml.bak"]


def test_settings_that_cannot_be_used_change_nothing(config: Path) -> None:
    config.parent.mkdir()
    config.write_text("old", encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        write(config, render({**LEAST, "asterisk": {"username": "zammad"}}))
    (problem,) = caught.value.problems
    assert f"asterisk.secret: is missing; set it in {config}" in problem
    assert [path.name for path in config.parent.iterdir()] == ["ami2zammad.toml"]
    assert config.read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("step", ["os.fsync", "load_settings", "Path.replace", "os.fdopen", "Path.read_bytes"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_at_any_step_it_leaves_the_old_file_and_nothing_else(
    step: str, failure: BaseException, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config, render(LEAST))
    before = config.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(f"ami2zammad.admin.settings_file.{step}", fail)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write(config, render({**LEAST, "instance": "new"}))
    monkeypatch.undo()
    assert config.read_bytes() == before
    assert [path.name for path in config.parent.iterdir()] == ["ami2zammad.toml"]


def test_a_link_stays_a_link(config: Path, tmp_path: Path) -> None:
    config.parent.mkdir()
    real = tmp_path / "real.toml"
    real.write_text("old", encoding="utf-8")
    config.symlink_to(real)
    assert write(config, render(LEAST)) == tmp_path / "real.toml.bak"
    assert config.is_symlink()
    assert load(real).asterisk.username == "zammad"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_owner_stays_the_owner(config: Path) -> None:
    write(config, render(LEAST))
    os.chown(config, 12345, 12346)
    write(config, render(LEAST))
    assert (config.stat().st_uid, config.stat().st_gid) == (12345, 12346)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_the_group_of_the_services_folder_may_read(config: Path) -> None:
    config.parent.mkdir(exist_ok=True)
    os.chown(config.parent, -1, 12346)
    config.parent.chmod(0o2750)
    write(config, render(LEAST))
    assert (config.stat().st_gid, config.stat().st_mode & 0o777) == (12346, 0o640)
    backup = write(config, render(LEAST))
    assert (config.stat().st_gid, config.stat().st_mode & 0o777) == (12346, 0o640)
    assert backup is not None
    assert backup.stat().st_mode & 0o777 == 0o600


def test_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "account.conf"
    write_private(file, "one")
    write_private(file, "two")
    assert file.read_text(encoding="utf-8") == "two"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_what_a_file_says_is_taken_over_as_far_as_it_can_be_used(config: Path) -> None:
    config.parent.mkdir()
    config.write_text(
        """
        foo = 1
        [asterisk]
        prot = 1
        port = "x"
        trunks = ["PJSIP/a", "b\\u0001", 3]
        username = "zammad"
        secret = "s3cret-of-ami"
        [zammad]
        url = "t0ken-but-no-url"
        [ops]
        token = "short"
        [[agents]]
        extension = "100"
        name = "Emma"
        [[agents]]
        name = "nowhere"
        [[agents]]
        extension = "100"
        name = "twice"
        [[agents]]
        extension = "101"
        foo = 1
        """,
        encoding="utf-8",
    )
    values, dropped = read_values(config)
    assert values == {
        "asterisk": {"trunks": ["PJSIP/a"], "username": "zammad", "secret": "s3cret-of-ami"},
        "zammad": {},
        "ops": {},
        "agents": [{"extension": "100", "name": "Emma"}],
    }
    assert {problem.partition(": ")[0] for problem in dropped} == {
        "foo", "asterisk.prot", "asterisk.port", "asterisk.trunks[2]", "asterisk.trunks[3]", "zammad.url", "ops.token",
        "agents", "agents[2].extension", "agents[4].foo",
    }  # fmt: skip
    assert not [problem for problem in dropped if "t0ken" in problem or "short" in problem]


@pytest.mark.parametrize(
    "text", ["agents = 3", 'asterisk = "x"', "agents = [3]", "[zammad]\nurl = [1]", "[agents]\na = 1"]
)
def test_whatever_a_file_says_does_no_harm(text: str, config: Path) -> None:
    config.parent.mkdir()
    config.write_text(text, encoding="utf-8")
    values, dropped = read_values(config)
    assert dropped
    write(config, render({**values, **LEAST}))


@pytest.mark.parametrize("content", [b"= x", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_says_so(content: bytes, config: Path) -> None:
    config.parent.mkdir()
    config.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="not valid TOML"):
        read_values(config)


def test_no_file_says_nothing(config: Path) -> None:
    assert read_values(config) == ({}, [])


def test_a_complaint_is_about_the_one_setting() -> None:
    country = complaint("numbers", "country", lambda value: "is not ours" if value == "FR" else "")
    assert country("de") == ""
    assert country("FR") == "is not ours"
    assert country("Germany").startswith("must be a country in two letters")
    assert complaint("asterisk", "port")("0").startswith("must be greater than or equal to 1")
    assert (
        complaint("asterisk", "trunks")(["PJSIP/x", "a\nb"])
        == "must not contain line breaks or other control characters"
    )
