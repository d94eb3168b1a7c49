"""The outbox's file: real SQLite, real locks, and what it says when the disk does not do as it should."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ami2zammad.outbox import store as store_module
from ami2zammad.outbox.store import (
    MIGRATIONS,
    Contents,
    OutboxInUseError,
    OutboxTooNewError,
    Row,
    Store,
    StoreTrouble,
    Transaction,
)

NOON = 1_795_000_000.0


def row(number: int, **changes: object) -> Row:
    return replace(Row(number, f"f{number}", f"c{number}", "newCall", NOON, "{}"), **changes)  # type: ignore[arg-type]


def written(*rows: Row, deleted: tuple[int, ...] = (), calls: dict[str, str | None] | None = None) -> Transaction:
    return Transaction({one.id: one for one in rows}, set(deleted), calls or {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "outbox.db"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = Store(path, wall=lambda: NOON)
    store.open()
    try:
        yield store
    finally:
        store.close()


def contents_of(path: Path) -> Contents:
    """Return what a bridge would find in the file."""
    with contextlib.closing(Store(path)) as store:
        return store.open()


def test_what_is_written_is_there_when_it_is_opened_again(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1), row(2), row(3, set_aside_at=NOON, reason="no"), calls={"a": "A", "b": "B"}))
        store.commit(written(row(4), deleted=(1,), calls={"b": None}))
        store.commit(written(row(2, attempts=3, reason="HTTP 500")))
    contents = contents_of(path)
    assert contents.waiting == [row(2, attempts=3, reason="HTTP 500"), row(4)]
    assert contents.calls == {"a": "A"}
    assert (contents.dead_letters, contents.next_id) == (1, 5)


def test_others_cannot_read_it(path: Path) -> None:
    with opened(path) as store:
        store.claim()
        store.commit(written(row(1)))
        modes = {file.stat().st_mode & 0o077 for file in path.parent.iterdir()}
        store.release()
    assert modes == {0}


def test_a_transaction_is_written_whole_or_not_at_all(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1)))
        unwritable = written(row(2), row(3, body=None))
        with pytest.raises(StoreTrouble):
            store.commit(unwritable)
        # And the next one goes through.
        store.commit(written(row(4)))
        assert [one.id for one in store.events()] == [1, 4]


def test_later_changes_replace_earlier_ones() -> None:
    earlier = written(row(1), row(2), deleted=(7,), calls={"a": "A", "b": "B"})
    earlier.follow(written(row(2, attempts=1), row(7), deleted=(1,), calls={"a": None}))
    assert earlier == written(row(2, attempts=1), row(7), deleted=(1,), calls={"a": None, "b": "B"})


def test_only_new_events_must_be_safe_from_a_loss_of_power() -> None:
    assert written(row(1)).urgent
    assert not written(row(1, attempts=1)).urgent
    assert not written(row(1, set_aside_at=NOON)).urgent
    assert not written(deleted=(1,), calls={"a": "A"}).urgent


def test_two_bridges_refuse_each_other(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ami2zammad.outbox.store import Store;"
        "s = Store(Path(sys.argv[1])); s.claim(); print('claimed', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "claimed\n"
        store = Store(path)
        with pytest.raises(
            OutboxInUseError, match=rf"in use by another ami2zammad \(process {other.pid}\): .*outbox.path"
        ):
            store.claim()
        other.kill()
        other.wait()
        # Whoever held it is gone, however that came about.
        store.claim()
        store.claim()
        store.release()


def test_a_later_version_s_outbox_is_left_alone(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1)))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(OutboxTooNewError, match=r"later version .*schema 99.*outbox\.path"):
        Store(path).open()
    assert path.read_bytes() == before


def test_an_older_version_s_outbox_is_brought_up_to_date(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1), calls={"a": "A"}))
    newer = Store(path, migrations=(*MIGRATIONS, "ALTER TABLE event ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';"))
    contents = newer.open()
    assert (contents.waiting, contents.calls) == ([row(1)], {"a": "A"})
    newer.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT colour FROM event").fetchall() == [("red",)]
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1)))
    with pytest.raises(StoreTrouble):
        Store(path, migrations=(*MIGRATIONS, "DELETE FROM event; ALTER TABLE nonsense ADD COLUMN x;")).open()
    assert list(contents_of(path).waiting) == [row(1)]


@pytest.mark.parametrize(
    "content", [b"this is no database, but a letter to the editor" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_known_and_kept_under_another_name(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = Store(path, wall=lambda: NOON)
    with pytest.raises(StoreTrouble) as caught:
        store.open()
    assert caught.value.damaged
    kept = store.set_aside()
    assert kept.name.startswith("outbox.db.damaged-2026")
    assert kept.read_bytes() == content
    store.open()
    # A second one on the same day does not replace the first.
    store.close()
    assert store.set_aside() != kept
    assert kept.read_bytes() == content


def test_damage_in_the_middle_of_a_file_is_found_when_it_is_opened(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(*(row(number, body="x" * 500) for number in range(200))))
    content = bytearray(path.read_bytes())
    content[8192:16384] = bytes(8192)
    path.write_bytes(content)
    with pytest.raises(StoreTrouble) as caught:
        Store(path).open()
    assert caught.value.damaged


def test_a_full_disk_is_called_one(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1)))
        assert store._database is not None
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreTrouble, match="the disk is full"):
            store.commit(written(row(2, body="x" * 100_000)))
        store._database.execute("PRAGMA max_page_count = 100000")
        store.commit(written(row(3)))
        assert [one.id for one in store.events()] == [1, 3]


def test_a_file_that_another_program_has_locked_is_called_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_LOCK_TIMEOUT", 0.01)
    with opened(path) as store, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreTrouble, match="another program has it locked"):
            store.commit(written(row(1)))
        other.execute("ROLLBACK")
        store.commit(written(row(1)))


def test_a_folder_that_cannot_be_made_is_said_in_the_system_s_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "outbox.db")
    for attempt in (store.claim, store.open):
        with pytest.raises(StoreTrouble, match=r"Not a directory|File exists"):
            attempt()


def test_nothing_works_before_it_is_opened(path: Path) -> None:
    with pytest.raises(StoreTrouble, match="not open"):
        Store(path).commit(written(row(1)))


def test_dead_letters_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "DEAD_LETTERS_KEPT", 3)
    with opened(path) as store:
        store.commit(written(row(99)))
        for number in range(6):
            store.commit(written(row(number, set_aside_at=NOON + number)))
        assert [one.id for one in store.events()] == [3, 4, 5, 99]


def test_what_another_program_changes_is_noticed_and_nothing_else(path: Path) -> None:
    with opened(path) as store, opened(path) as admin:
        store.commit(written(row(1), row(2), row(3, set_aside_at=NOON - 5, attempts=8, reason="no")))
        assert store.changed_by_others() is None
        assert admin.retry([3]) == 1
        contents = store.changed_by_others()
        assert contents is not None
        assert [(one.id, one.at, one.attempts) for one in contents.waiting] == [
            (1, NOON, 0),
            (2, NOON, 0),
            (3, NOON, 0),
        ]
        assert contents.dead_letters == 0
        assert store.changed_by_others() is None
        assert admin.retry([1, 77]) == 0
        assert admin.discard([2, 77]) == 1
        contents = store.changed_by_others()
        assert contents is not None
        assert [one.id for one in contents.waiting] == [1, 3]


def test_with_an_event_its_whole_entry_is_tried_again(path: Path) -> None:
    aside = NOON - 5
    with opened(path) as store:
        store.commit(
            written(
                row(1, call_id="1", set_aside_at=aside),
                row(2, call_id="1", kind="answer", set_aside_at=aside),
                row(3, call_id="1", kind="hangup", set_aside_at=aside),
                row(4, call_id="1-2", set_aside_at=aside),
                row(5, call_id="2", set_aside_at=aside),
            )
        )
        # An id of the same entry finds nothing more to do.
        assert store.retry([2, 3]) == 3
        assert [one.id for one in store.events() if one.set_aside_at is None] == [1, 2, 3]


def test_discarding_all_is_about_what_was_set_aside(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1), row(2, set_aside_at=NOON), row(3, set_aside_at=NOON)))
        assert store.discard(None) == 2
        assert [one.id for one in store.events()] == [1]
        assert store.retry(None) == 0
        assert store.events([1, 5]) == [row(1)]


def test_what_is_changed_while_it_is_read_is_noticed_at_the_next_look(path: Path) -> None:
    with opened(path) as store, opened(path) as admin:
        store.commit(written(row(1, set_aside_at=NOON), row(2, set_aside_at=NOON)))
        assert admin.retry([1]) == 1

        class Slow:
            """A database that is changed when the waiting events were read, and the rest was not."""

            def __init__(self, database: sqlite3.Connection) -> None:
                self.database = database

            def execute(self, statement: str) -> sqlite3.Cursor:
                if "FROM call" in statement:
                    admin.retry([2])
                return self.database.execute(statement)

        database = store._database
        assert database is not None
        store._database = Slow(database)  # type: ignore[assignment]
        first = store.changed_by_others()
        store._database = database
        second = store.changed_by_others()
        assert first is not None
        assert second is not None
        assert [len(contents.waiting) for contents in (first, second)] == [1, 2]


def test_a_text_that_has_gone_bad_hides_no_other(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1), row(2)))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE event SET body = CAST(x'7bff' AS TEXT) WHERE id = 1")
        database.commit()
    with contextlib.closing(Store(path)) as store:
        assert store.open().waiting == [row(1, body="{\N{REPLACEMENT CHARACTER}"), row(2)]


def test_a_file_that_was_read_only_when_it_was_opened_is_opened_again(path: Path) -> None:
    with opened(path) as store:
        store.commit(written(row(1)))
        # What SQLite does by itself with a file that may not be written (root may write anything).
        store._opened().execute("PRAGMA query_only = true")
        with pytest.raises(StoreTrouble, match="read-only"):
            store.commit(written(row(2)))
        store.open()
        store.commit(written(row(2)))
        assert len(store.events()) == 2
