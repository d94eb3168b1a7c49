"""Logs: one line an event, and no secret or control character in it."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
from hypothesis import given, strategies as st

from ami2zammad.logs import REDACTED, Redaction, configure_logging

SECRET = "s3cret/of-ami"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(form: Any, level: Any = "info") -> tuple[io.StringIO, structlog.typing.FilteringBoundLogger]:
    stream = io.StringIO()
    configure_logging(level=level, form=form, secrets=[SECRET], stream=stream)
    return stream, structlog.get_logger()


def test_a_json_line_begins_with_time_level_event_and_call() -> None:
    stream, log = lines("json")
    log.info("call.new", users=["Zoë Müller"], call_id="1.2", queue="")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert list(json.loads(line)) == ["timestamp", "level", "event", "call_id", "users", "queue"]
    assert "Zoë Müller" in line


def test_no_form_means_json_where_there_is_no_terminal() -> None:
    stream, log = lines(None)
    log.warning("ami.disconnected")
    assert json.loads(stream.getvalue())["event"] == "ami.disconnected"


def test_the_level_is_kept() -> None:
    stream, log = lines("json", "warning")
    log.info("call.new")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_never_shows(form: str) -> None:
    stream, log = lines(form, "debug")
    log.info("x.y", url=f"https://h/{SECRET}", nested={"a": [SECRET, {SECRET: 1}]}, error=ValueError(SECRET))
    try:
        raise ValueError(f"Secret: {SECRET}")  # noqa: TRY301 - there is nothing else in here
    except ValueError:
        log.exception("x.failed")
        logging.getLogger("panoramisk").exception("Fail to send %r", {"Secret": SECRET})
    logging.getLogger("aiohttp").error("url %s", SECRET)
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count(REDACTED) >= 6


def test_what_a_library_logs_has_a_stable_name() -> None:
    stream, _ = lines("json")
    logging.getLogger("aiohttp.client").warning("Unclosed %s", "session")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["logger"], line["message"]) == ("library.log", "aiohttp.client", "Unclosed session")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_caller_cannot_break_a_line_or_paint_the_terminal(form: str) -> None:
    stream, log = lines(form)
    log.info("call.new", from_name="Bob\r\n{}\x1b[31m\u2028\x85\x9b2J", call_id="1.2")
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert not set("\r\x1b\u2028\x85\x9b") & set(text)


@given(st.dictionaries(st.sampled_from(["name", "user"]), st.text(max_size=30)))
def test_any_value_stays_on_its_line(fields: dict[str, str]) -> None:
    cleaned = Redaction([SECRET])(None, "", dict(fields))
    line = json.dumps(dict(cleaned), ensure_ascii=False)
    assert len(line.splitlines()) == 1


class FullDisk(io.StringIO):
    """A log file on a disk without room."""

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(form="json", stream=FullDisk())
    for _ in range(3):
        structlog.get_logger().info("call.new")
        logging.getLogger("aiohttp").error("x")
    assert capsys.readouterr().err.count("the log cannot be written") == 1


def test_a_log_that_knows_no_umlauts_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(form="json", stream=io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    structlog.get_logger().info("call.new", users=["Zoë Müller"])
    assert "the log cannot be written" in capsys.readouterr().err


def test_a_secret_that_is_part_of_another_does_not_leave_the_rest() -> None:
    redaction = Redaction(["token", "https://zammad/token"])
    assert redaction.text("see https://zammad/token!") == f"see {REDACTED}!"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """A stream that is the one that JOURNAL_STREAM names."""
    with (tmp_path / "journal").open("w+", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield stream


def written(stream: TextIO) -> list[str]:
    stream.flush()
    stream.seek(0)
    return stream.read().splitlines()


def test_lines_for_the_journal_carry_their_priority_and_no_time(journal: TextIO) -> None:
    configure_logging(level="debug", form="json", stream=journal)
    log = structlog.get_logger()
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("x.y", call_id="1.2")
    try:
        raise ValueError("two\nlines")  # noqa: TRY301 - there is nothing else in here
    except ValueError:
        log.exception("x.fault")
    logging.getLogger("aiohttp").warning("x")
    lines = written(journal)
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>", "<4>"]
    assert [list(json.loads(line[3:]))[:2] for line in lines] == [["level", "event"]] * len(lines)
    assert "timestamp" not in "".join(lines)


def test_each_line_of_a_traceback_for_people_has_its_priority_in_the_journal(journal: TextIO) -> None:
    configure_logging(form="console", stream=journal)
    structlog.get_logger().error("x.fault", exc_info=ValueError("two\nlines"))
    lines = written(journal)
    assert len(lines) > 2
    assert {line[:3] for line in lines} == {"<3>"}


def test_another_stream_than_the_journals_is_as_ever(journal: TextIO, tmp_path: Path) -> None:
    with (tmp_path / "other").open("w+", encoding="utf-8") as other:
        configure_logging(form="json", stream=other)
        structlog.get_logger().info("x.y")
        assert list(json.loads(written(other)[0])) == ["timestamp", "level", "event"]
    assert written(journal) == []
