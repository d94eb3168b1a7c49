"""Keeps the outbox's file true, off the loop: what is put in while one transaction is written goes into the next.

The disk never decides about calls: when it is full, read-only, damaged, locked or just does not answer, events go on
in memory, this is said once, and all that was to be written is written when it can be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import structlog

from ami2zammad.outbox._thread import Thread
from ami2zammad.outbox.store import DEAD_LETTERS_KEPT, Contents, OutboxError, Row, Store, StoreTrouble, Transaction

Sleep = Callable[[float], Awaitable[None]]
_ResultT = TypeVar("_ResultT")

PATIENCE: Final = 2.0
"""Seconds that an event waits for the disk before it goes on without, and up to a quarter more."""
RETRY_AFTER: Final = 5.0
"""Seconds between two attempts to write while the disk is in trouble."""
LOOK_EVERY: Final = 2.0
"""Seconds between two looks whether `ami2zammad outbox` has changed the file."""
LINGER: Final = 0.02
"""Seconds that the deletion of what was delivered, and a change of a call of which Zammad is not told, wait for
something else to write: most transactions less. If the bridge is killed then, an event is delivered once more, or
the next snapshot tells the change. Between Zammad's taking an event and its reply lies more time than this anyway."""


class Journal:
    """The one who writes to a `Store`.

    `written(ids)`: these rows are on disk now, or need not wait for it any longer. `everything()`: all that a new
    file must hold. `taken_up(contents)`: a file that could not be opened at first is open now, and held this.
    `edited(contents)`: another program has changed the file, which now holds this.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float],
        sleep: Sleep,
        written: Callable[[Iterable[int]], None],
        everything: Callable[[], Transaction],
        taken_up: Callable[[Contents], Awaitable[None]],
        edited: Callable[[Contents], Awaitable[None]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._written = written
        self._everything = everything
        self._taken_up = taken_up
        self._edited = edited
        self._log = structlog.get_logger()
        self._thread = Thread("outbox")
        self._busy_since: float | None = None
        self._pending = Transaction()
        self._being_written = Transaction()
        # What the file holds: there is nothing else to delete. Without that, a disk in trouble for weeks would leave a
        # list of all that was delivered meanwhile.
        self._rows_in_file: set[int] = set()
        self._calls_in_file: set[str] = set()
        # What was set aside and is not written yet.
        self._dead: deque[int] = deque()
        self._news = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None
        self._look_due = False
        self._read = False
        self._at_once = False
        self._renewed = False
        self.problem = ""
        """Why nothing can be written at the moment; empty: all is well."""
        self.dead_letters = 0
        """Events that are set aside."""

    @property
    def path(self) -> Path:
        """The outbox's file."""
        return self._store.path

    async def open(self) -> Contents:
        """Open the file and return what it holds; nothing where it cannot be read for now.

        Raises `OutboxError` where that must end the bridge.
        """
        try:
            contents = await self._claim_and_open()
        except StoreTrouble as trouble:
            await self._note_trouble(trouble)
            return Contents()
        except OutboxError:
            await self.close()
            raise
        return contents

    def put(self, row: Row) -> None:
        """Write or rewrite a row soon."""
        self._pending.put(row)
        if row.set_aside_at is not None:
            self.dead_letters += 1
            self._dead.append(row.id)
            if len(self._dead) > DEAD_LETTERS_KEPT:
                self._pending.rows.pop(self._dead.popleft(), None)
        self._news.set()

    def delete(self, row_id: int) -> None:
        """Delete a row soon."""
        if row_id in self._rows_in_file or row_id in self._being_written.rows:
            self._pending.delete(row_id)
        else:
            self._pending.rows.pop(row_id, None)
        self._linger()

    def remember(self, calls: Mapping[str, str | None]) -> None:
        """Keep, or forget, documents of live calls; written together with the rows put in the same turn of the loop."""
        for call_id, document in calls.items():
            if document is None and call_id not in self._calls_in_file and call_id not in self._being_written.calls:
                self._pending.calls.pop(call_id, None)
            else:
                self._pending.calls[call_id] = document
        self._linger()

    def _linger(self) -> None:
        """Write soon, at the latest."""
        if self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(LINGER, self._linger_no_more)

    def _linger_no_more(self) -> None:
        self._lingering = None
        self._news.set()

    def concerns(self, row_id: int) -> bool:
        """Say whether something about this row is still to be written."""
        return any(row_id in one.rows or row_id in one.deleted for one in (self._pending, self._being_written))

    def compact(self) -> None:
        """Let go of the memory that many more rows took: a set does not shrink when it is emptied."""
        self._rows_in_file = set(self._rows_in_file)
        self._calls_in_file = set(self._calls_in_file)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as aside:
            aside.create_task(self._let_look(), name="outbox-look")
            aside.create_task(self._watch(), name="outbox-watch")
            while True:
                if self.problem:
                    if not self._at_once:
                        await self._sleep(RETRY_AFTER)
                    self._at_once = False
                    await self._recover()
                    continue
                await self._news.wait()
                self._news.clear()
                await self._write()
                if self._look_due and not self.problem:
                    self._look_due = False
                    await self._look()

    async def _let_look(self) -> None:
        """Make it time for a look, again and again, also where there is always something to write."""
        while True:
            await self._sleep(LOOK_EVERY)
            self._look_due = True
            self._news.set()

    async def close(self) -> None:
        """Write what is to be written, as far as possible, and close the file; a disk that hangs is not waited for."""
        closing = asyncio.ensure_future(self._write_and_close())
        patience = asyncio.ensure_future(self._sleep(PATIENCE))
        await asyncio.wait({closing, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if closing.done():
            await closing
        else:
            closing.cancel()
            await self._note_trouble(StoreTrouble("the disk does not answer"))
        # Where it still hangs, the lock goes with the process.
        self._thread.end()

    async def _write_and_close(self) -> None:
        if self._store.is_open and self._pending:
            try:
                await self._commit()
            except StoreTrouble as trouble:
                await self._note_trouble(trouble)
        await self._in_thread(self._store.close)
        self._store.release()

    async def _claim_and_open(self) -> Contents:
        await self._in_thread(self._store.claim)
        contents = await self._in_thread(self._store.open)
        self._read = True
        self._note_contents(contents)
        return contents

    def _note_contents(self, contents: Contents) -> None:
        self._rows_in_file = {row.id for row in contents.waiting}
        self._calls_in_file = set(contents.calls)
        self.dead_letters = contents.dead_letters

    def _note_written(self, transaction: Transaction) -> None:
        self._rows_in_file -= transaction.deleted
        for row in transaction.rows.values():
            (self._rows_in_file.add if row.set_aside_at is None else self._rows_in_file.discard)(row.id)
        for call_id, document in transaction.calls.items():
            (self._calls_in_file.add if document is not None else self._calls_in_file.discard)(call_id)
        self._dead = deque(row.id for row in self._pending.rows.values() if row.set_aside_at is not None)

    async def _write(self) -> None:
        try:
            if self._pending:
                await self._commit()
        except StoreTrouble as trouble:
            await self._note_trouble(trouble)

    async def _commit(self) -> None:
        """Write what is pending. Raises `StoreTrouble`; then it is pending as before."""
        transaction, self._pending = self._pending, Transaction()
        self._being_written = transaction
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        try:
            await self._in_thread(self._store.commit, transaction)
        except BaseException:
            # If it was written in spite of this, it is written once more: that changes nothing. In a new one: when this
            # is cancelled the thread still reads the old one.
            again = Transaction()
            again.follow(transaction)
            again.follow(self._pending)
            self._pending = again
            raise
        finally:
            self._being_written = Transaction()
        self._note_written(transaction)
        self._written(transaction.rows)
        self._note_recovery()

    async def _recover(self) -> None:
        try:
            if not self._store.is_open:
                first = not self._read
                contents = await self._claim_and_open()
                if first:
                    await self._taken_up(contents)
            await self._commit()
        except StoreTrouble as trouble:
            await self._note_trouble(trouble)
        except OutboxError as error:
            await self._note_trouble(StoreTrouble(str(error)))

    async def _look(self) -> None:
        """Take in what `ami2zammad outbox` has changed."""
        try:
            contents = await self._in_thread(self._store.changed_by_others)
        except StoreTrouble as trouble:
            await self._note_trouble(trouble)
            return
        self._note_recovery()
        if contents is not None:
            self._note_contents(contents)
            await self._edited(contents)

    async def _note_trouble(self, trouble: StoreTrouble) -> None:
        if not self.problem:
            folder = self.path.parent
            self._log.error(
                "outbox.not_durable",
                path=str(self.path),
                problem=trouble.problem,
                remedy=f"see to it that the bridge can write in {folder} and that there is space; until then it goes "
                "on in memory, and what waits is lost if it ends",
            )
            # Nobody waits for a disk in trouble; what comes from now on does not begin to.
            self._written([*self._being_written.rows, *self._pending.rows])
        self.problem = trouble.problem
        # A disk that damages the new file as well would be filled with damaged ones.
        if trouble.damaged and not self._renewed:
            await self._begin_anew(trouble)

    async def _begin_anew(self, trouble: StoreTrouble) -> None:
        """Keep the damaged file under another name, and have all that is known written into a new one."""
        try:
            kept = await self._in_thread(self._store.set_aside)
        except StoreTrouble as again:
            self.problem = again.problem
            return
        self._read = self._at_once = self._renewed = True
        self._rows_in_file, self._calls_in_file = set(), set()
        everything = self._everything()
        everything.follow(self._pending)
        self._pending = everything
        self._log.error(
            "outbox.damaged",
            path=str(self.path),
            problem=trouble.problem,
            kept_as=str(kept),
            remedy="a new one is begun; what only the damaged file holds may be read with `sqlite3 FILE .recover`",
        )

    def _note_recovery(self) -> None:
        if self.problem:
            self.problem = ""
            self._renewed = False
            self._log.info("outbox.durable", path=str(self.path))

    async def _in_thread(self, work: Callable[..., _ResultT], *arguments: object) -> _ResultT:
        self._busy_since = self._clock()
        try:
            return await self._thread.do(work, *arguments)
        finally:
            self._busy_since = None

    async def _watch(self) -> None:
        """Let events go on without a disk that does not answer. A look now and then costs less than many timers."""
        while True:
            await self._sleep(PATIENCE / 4)
            late = self._busy_since is not None and self._clock() - self._busy_since >= PATIENCE
            if late and (self._being_written or self._pending.urgent):
                await self._note_trouble(StoreTrouble("the disk does not answer"))
