"""The outbox's file: a SQLite database in WAL mode. Synchronous: `_journal` keeps it off the loop.

Three sorts of contents: events that wait for Zammad; events that were set aside (dead letters), because Zammad
refused them or because they became too old; and the live calls, each a document that only the call tracker reads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

# Each step leads from the schema of its index to the next (PRAGMA user_version). Steps are never changed, only added.
MIGRATIONS: Final = (
    """
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        family TEXT NOT NULL,
        call_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        at REAL NOT NULL,
        body TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        set_aside_at REAL
    );
    CREATE INDEX event_set_aside ON event (set_aside_at) WHERE set_aside_at IS NOT NULL;
    CREATE TABLE call (call_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    """,
)
DEAD_LETTERS_KEPT: Final = 100_000
"""Events that were set aside and are kept; beyond that the oldest go."""
_LOCK_TIMEOUT: Final = 1.0
"""Seconds that a transaction waits for another program (a backup, `sqlite3`) to let go of the file."""
_CACHE_KIB: Final = 256
_COLUMNS: Final = "id, family, call_id, kind, at, body, attempts, reason, set_aside_at"


class OutboxError(Exception):
    """The outbox's file cannot be used by anybody; the text says what to do."""


class OutboxInUseError(OutboxError):
    """Another bridge has this outbox."""


class OutboxTooNewError(OutboxError):
    """A later version of ami2zammad has written this outbox."""


class StoreTrouble(Exception):  # noqa: N818 - a state of the disk, which passes
    """The file cannot be read or written for now. `damaged`: it is no usable database any more.

    `read_only`: this connection will never be able to write.
    """

    def __init__(self, problem: str, *, damaged: bool = False, read_only: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.damaged = damaged
        self.read_only = read_only


@dataclass(frozen=True, slots=True)
class Row:
    """One event as it stands in the file. `at` and `set_aside_at` are seconds since the epoch."""

    id: int
    family: str
    call_id: str
    kind: str
    at: float
    body: str
    attempts: int = 0
    """Attempts that failed."""
    reason: str = ""
    """Why the last attempt failed, or why it was set aside."""
    set_aside_at: float | None = None


@dataclass(slots=True)
class Transaction:
    """What is to be written at once: all of it or nothing. Later changes of the same thing replace earlier ones."""

    rows: dict[int, Row] = field(default_factory=dict)
    """Rows to insert, or to replace."""
    deleted: set[int] = field(default_factory=set)
    calls: dict[str, str | None] = field(default_factory=dict)
    """Documents of live calls; None: the call is over."""

    def __bool__(self) -> bool:
        return bool(self.rows or self.deleted or self.calls)

    @property
    def urgent(self) -> bool:
        """Whether something in it must not be lost even if the power fails."""
        return any(row.set_aside_at is None and not row.attempts for row in self.rows.values())

    def put(self, row: Row) -> None:
        """Insert or replace a row."""
        self.rows[row.id] = row
        self.deleted.discard(row.id)

    def delete(self, row_id: int) -> None:
        """Take a row out."""
        self.rows.pop(row_id, None)
        # Whether the row is in the file already is not known here; to delete what is not there is harmless.
        self.deleted.add(row_id)

    def follow(self, later: Transaction) -> None:
        """Take in what is to be written after this."""
        for row_id in later.deleted:
            self.delete(row_id)
        for row in later.rows.values():
            self.put(row)
        self.calls.update(later.calls)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held when it was opened."""

    waiting: Sequence[Row] = ()
    calls: Mapping[str, str] = field(default_factory=dict)
    dead_letters: int = 0
    next_id: int = 1


class Store:
    """One outbox file. Every method may block, and raises `StoreTrouble` where the disk or the file is at fault.

    `wall` gives seconds since the epoch; `migrations` is there for tests.
    """

    def __init__(
        self, path: Path, *, wall: Callable[[], float] = time.time, migrations: Sequence[str] = MIGRATIONS
    ) -> None:
        self.path = path
        self._wall = wall
        self._migrations = migrations
        self._database: sqlite3.Connection | None = None
        self._lock: IO[str] | None = None
        self._seen_version = 0
        self._opened_inode: tuple[int, int] | None = None

    def claim(self) -> None:
        """Make sure that no other bridge uses this outbox, until `release`.

        Raises `OutboxInUseError`, or `StoreTrouble` if the folder cannot be written.
        """
        if self._lock is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Whoever may open it can lock it: the bridge's user alone.
            descriptor = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            lock = os.fdopen(descriptor, "a+", encoding="ascii")
        except OSError as error:
            raise StoreTrouble(_told(error)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            owner = lock.read(20).strip()
            lock.close()
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise StoreTrouble(_told(error)) from None
            who = f"another ami2zammad (process {owner})" if owner.isdigit() else "another ami2zammad"
            raise OutboxInUseError(
                f"the outbox {self.path} is in use by {who}: stop that one, or give each bridge its own outbox.path"
            ) from None
        self._lock = lock
        # Who holds it is only a courtesy: on a full disk the lock holds all the same.
        with contextlib.suppress(OSError):
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._database is not None

    def open(self) -> Contents:
        """Open the file, make it if it is not there, bring it up to this version, and read it.

        Raises `OutboxTooNewError`, and `StoreTrouble` as said above.
        """
        with _translated():
            database = self._connect()
            try:
                self._check(database)
                contents = self._read(database)
            except BaseException:
                database.close()
                raise
            self._database = database
            self._opened_inode = self._inode()
            return contents

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Callers' numbers are in it: for the bridge's user alone, like the WAL beside it.
        self.path.touch(mode=0o600, exist_ok=True)
        database = sqlite3.connect(
            self.path, timeout=_LOCK_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        # SQLite does not check its texts: one that has gone bad must not hide all others.
        database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            self._migrate(database)
        except BaseException:
            database.close()
            raise
        return database

    def _migrate(self, database: sqlite3.Connection) -> None:
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        if version > len(self._migrations):
            raise OutboxTooNewError(
                f"the outbox {self.path} was written by a later version of ami2zammad (schema {version}, this one "
                f"knows {len(self._migrations)}): install that version again, or set outbox.path to a new file"
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        # Rows are hardly ever read again: what SQLite keeps of them is memory for nothing.
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        for step in range(version, len(self._migrations)):
            statements = self._migrations[step]
            database.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {step + 1}; COMMIT;")

    @staticmethod
    def _check(database: sqlite3.Connection) -> None:
        (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise StoreTrouble("it is damaged", damaged=True)

    def _read(self, database: sqlite3.Connection) -> Contents:
        # First: what is changed while this is read is read again at the next look.
        self._seen_version = _data_version(database)
        rows = database.execute(f"SELECT {_COLUMNS} FROM event WHERE set_aside_at IS NULL ORDER BY id")  # noqa: S608
        waiting = [Row(*row) for row in rows]
        calls = dict(database.execute("SELECT call_id, document FROM call"))
        (dead,) = database.execute("SELECT count(*) FROM event WHERE set_aside_at IS NOT NULL").fetchone()
        (last,) = database.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
        return Contents(waiting, calls, dead, last + 1)

    def commit(self, transaction: Transaction) -> None:
        """Write `transaction`; on the disk itself when this returns, if it is urgent."""
        try:
            self._commit(self._opened(), transaction)
        except StoreTrouble as trouble:
            # To be opened again: it was opened when the file could not be written, and would stay so.
            if trouble.read_only:
                self.close()
            raise

    def _commit(self, database: sqlite3.Connection, transaction: Transaction) -> None:
        with _translated():
            if transaction.urgent:
                self._write(database, transaction)
                return
            # Without a sync a loss of power may take the latest transactions away, the death of the process may not.
            # What is lost then was delivered before, and is delivered once more: harmless, and much faster.
            database.execute("PRAGMA synchronous = NORMAL")
            try:
                self._write(database, transaction)
            finally:
                # At once: the next urgent transaction shall not have to wait for it.
                database.execute("PRAGMA synchronous = FULL")

    def _write(self, database: sqlite3.Connection, transaction: Transaction) -> None:
        database.execute("BEGIN IMMEDIATE")
        try:
            self._write_rows(database, transaction)
            database.execute("COMMIT")
        except BaseException:
            # The error itself may have rolled it back already.
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    @staticmethod
    def _write_rows(database: sqlite3.Connection, transaction: Transaction) -> None:
        database.executemany("DELETE FROM event WHERE id = ?", ((row_id,) for row_id in transaction.deleted))
        database.executemany(
            f"INSERT OR REPLACE INTO event ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (
                (r.id, r.family, r.call_id, r.kind, r.at, r.body, r.attempts, r.reason, r.set_aside_at)
                for r in transaction.rows.values()
            ),
        )
        for call_id, document in transaction.calls.items():
            if document is None:
                database.execute("DELETE FROM call WHERE call_id = ?", (call_id,))
            else:
                database.execute("INSERT OR REPLACE INTO call VALUES (?, ?)", (call_id, document))
        if any(row.set_aside_at is not None for row in transaction.rows.values()):
            database.execute(
                "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE set_aside_at IS NOT NULL "
                "ORDER BY set_aside_at DESC, id DESC LIMIT -1 OFFSET ?)",
                (DEAD_LETTERS_KEPT,),
            )

    def changed_by_others(self) -> Contents | None:
        """Return what waits now if another program (`ami2zammad outbox`) has written the file, else None."""
        database = self._opened()
        with _translated():
            if self._inode() != self._opened_inode:
                raise StoreTrouble("it was deleted or replaced while the bridge used it", damaged=True)
            version = _data_version(database)
            return self._read(database) if version != self._seen_version else None

    def _inode(self) -> tuple[int, int] | None:
        """Return what the name leads to at the moment."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    # -- for `ami2zammad outbox` ------------------------------------------------------------------------------

    def events(self, ids: Iterable[int] | None = None) -> list[Row]:
        """Return all events, those that were set aside first, or those with these ids."""
        database = self._opened()
        with _translated():
            if ids is not None:
                found = [
                    database.execute(f"SELECT {_COLUMNS} FROM event WHERE id = ?", (one,)).fetchone()  # noqa: S608
                    for one in ids
                ]
                return [Row(*row) for row in found if row is not None]
            return [
                Row(*row)
                for row in database.execute(f"SELECT {_COLUMNS} FROM event ORDER BY set_aside_at IS NULL, id")  # noqa: S608
            ]

    def retry(self, ids: Iterable[int] | None) -> int:
        """Let events that were set aside (None: all) be tried again from now on; return how many.

        With each goes what else was set aside of its log entry: without its hangup it would stay open for ever.
        """
        return self._edit(
            "UPDATE event SET set_aside_at = NULL, attempts = 0, at = ? WHERE set_aside_at IS NOT NULL",
            "call_id = (SELECT call_id FROM event WHERE id = ?)",
            ids,
            self._wall(),
        )

    def discard(self, ids: Iterable[int] | None) -> int:
        """Delete events, waiting ones too (None: all that were set aside); return how many."""
        if ids is None:
            return self._edit("DELETE FROM event WHERE set_aside_at IS NOT NULL", "", None)
        return self._edit("DELETE FROM event WHERE true", "id = ?", ids)

    def _edit(self, statement: str, concerns: str, ids: Iterable[int] | None, *values: float) -> int:
        database = self._opened()
        with _translated():
            database.execute("BEGIN IMMEDIATE")
            if ids is None:
                count = database.execute(statement, values).rowcount
            else:
                count = sum(database.execute(f"{statement} AND {concerns}", (*values, one)).rowcount for one in ids)
            database.execute("COMMIT")
            return count

    # -- the end ----------------------------------------------------------------------------------------------

    def set_aside(self) -> Path:
        """Rename a damaged file, if it is still there, with what belongs to it; return its new name."""
        self.close()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._wall()))
        new = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        number = 1
        while new.exists():
            number += 1
            new = self.path.with_name(f"{self.path.name}.damaged-{stamp}-{number}")
        try:
            for suffix in ("-wal", "-shm"):
                beside = self.path.with_name(self.path.name + suffix)
                if beside.exists():
                    beside.rename(new.with_name(new.name + suffix))
            if self.path.exists():
                self.path.rename(new)
        except OSError as error:
            raise StoreTrouble(_told(error)) from None
        return new

    def close(self) -> None:
        """Close the file; nothing is lost, whatever state it is in."""
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    def release(self) -> None:
        """Let another bridge have this outbox."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise StoreTrouble("it is not open")
        return self._database


def _data_version(database: sqlite3.Connection) -> int:
    """Return a number that changes when another connection has written."""
    return int(database.execute("PRAGMA data_version").fetchone()[0])


_TROUBLES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_BUSY: "another program has it locked",
    sqlite3.SQLITE_LOCKED: "another program has it locked",
    sqlite3.SQLITE_IOERR: "the disk reports an error, or is full",
}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT: "it is damaged", sqlite3.SQLITE_NOTADB: "it is no SQLite database"}
_PRIMARY: Final = 0xFF
"""The part of SQLite's extended result codes that says what kind of error it is (sqlite.org/rescode.html)."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what SQLite and the system raise into `StoreTrouble`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in _DAMAGED:
            raise StoreTrouble(_DAMAGED[code], damaged=True) from None
        problem = _TROUBLES.get(code) or f"SQLite says: {error}"
        raise StoreTrouble(problem, read_only=code == sqlite3.SQLITE_READONLY) from None
    except OSError as error:
        raise StoreTrouble(_told(error)) from None
    except (ValueError, OverflowError) as error:
        raise StoreTrouble(f"SQLite cannot hold a value: {type(error).__name__}") from None


def _told(error: OSError) -> str:
    return error.strerror or type(error).__name__
