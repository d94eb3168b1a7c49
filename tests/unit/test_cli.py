"""The front door: what each command says and how it ends."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ami2zammad import __version__
from ami2zammad.cli import FAILED, FINE, USAGE, main

RECORDINGS = Path(__file__).parents[1] / "recordings"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_help_lists_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == FINE
    text = capsys.readouterr().out
    for word in ("init", "run", "check", "demo", "replay", "record", "exit codes", "AMI2ZAMMAD_<SECTION>__<KEY>"):
        assert word in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == FINE
    assert capsys.readouterr().out == f"ami2zammad {__version__}\n"


def test_no_command_is_a_usage_error_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == USAGE
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["run"], ["check"], ["record", "x.ami"], ["replay", "x.ami"]])
def test_a_configuration_that_is_not_there_is_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--config", str(tmp_path / "none.toml")]) == USAGE
    assert "none.toml: no such file; name the right one with --config" in capsys.readouterr().err


def test_every_mistake_of_a_configuration_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "bad.toml"
    config.write_text('[asterisk]\nprot = 1\n[zammad]\nurl = "x"\n', encoding="utf-8")
    assert main(["run", "--config", str(config)]) == USAGE
    text = capsys.readouterr().err
    assert "(4 to mend)" in text
    for problem in ("asterisk.prot: unknown key; did you mean port?", "asterisk.secret: is missing", "zammad.url"):
        assert problem in text


def test_replay_prints_what_would_be_posted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(RECORDINGS / "captures" / "in_answer.ami")]) == FINE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["newCall", "answer", "hangup"]
    assert lines[1] == {
        "event": "answer",
        "callId": "1795294371.98",
        "direction": "in",
        "from": "4917699999999",
        "to": "4930600100",
        "user": "Emma Taylor",
        "answeringNumber": "100",
    }


def test_replay_uses_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ami2zammad.toml"
    config.write_text(
        'instance = "pbx1"\n[[agents]]\nextension = "100"\nname = "E. T."\nanswering_number = "et@example.com"\n',
        encoding="utf-8",
    )
    assert main(["replay", str(RECORDINGS / "captures" / "in_answer.ami"), "--config", str(config)]) == FINE
    answer = json.loads(capsys.readouterr().out.splitlines()[1])
    assert (answer["callId"], answer["user"]) == ("pbx1-1795294371.98", "E. T.")
    assert answer["answeringNumber"] == "et@example.com"


def test_replay_says_what_was_still_going_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (RECORDINGS / "captures" / "in_answer.ami").read_bytes()
    cut = tmp_path / "cut.ami"
    cut.write_bytes(whole[: whole.index(b"Event: HangupRequest")])
    assert main(["replay", str(cut)]) == FINE
    assert "1 call(s) were still up" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n", b"SSH-2.0-OpenSSH\r\n"])
def test_replay_of_something_else_says_so(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.ami"
    file.write_bytes(content)
    assert main(["replay", str(file)]) == FAILED
    assert str(file) in capsys.readouterr().err


def test_replay_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / "none.ami")]) == FAILED
    assert "none.ami" in capsys.readouterr().err


def test_the_bridge_starts_without_what_only_other_commands_need() -> None:
    code = "import sys; import ami2zammad.cli; print([m for m in ('aiohttp', 'rich', 'pydantic') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_login_does_not_wait_for_what_deliveries_need() -> None:
    code = "import sys; import ami2zammad.daemon; print([m for m in ('aiohttp', 'tenacity') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_journal_files_complaints_as_errors(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(sys.stderr.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == USAGE
    lines = capfd.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("<3>") for line in lines)
