"""`outbox`: what waits for Zammad and what was set aside, read from the file of a bridge that may be running."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table

from ami2zammad.outbox.store import OutboxError, Row, Store, StoreTrouble
from ami2zammad.settings import Settings

# A pipe must not cut reasons off.
_WIDTH: Final = 160


class OutboxUnreadableError(Exception):
    """The outbox cannot be looked into; the text says what to do."""


class OutboxAdmin:
    """Reads and edits the outbox that the settings name; a running bridge takes edits in within seconds.

    `output` is where it writes; with `as_json` one JSON document. Every method raises `OutboxUnreadableError`.
    """

    def __init__(self, settings: Settings, output: TextIO, *, as_json: bool) -> None:
        path = settings.outbox.path
        if path is None:
            raise OutboxUnreadableError("outbox.path is empty: this bridge keeps nothing on disk")
        try:
            if not path.exists():
                raise OutboxUnreadableError(
                    f"{path} does not exist: the bridge has not run yet, or outbox.path names another file"
                )
            self._store = Store(path)
            self._store.open()
        except (StoreTrouble, OutboxError, OSError) as error:
            raise OutboxUnreadableError(
                f"{path} cannot be read: {error}; try as root or as the bridge's user"
            ) from None
        self._output = output
        self._as_json = as_json

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def list_all(self) -> None:
        """Show all events: those that were set aside, and those that wait."""
        rows = self._rows(None)
        if self._as_json:
            self._print_json([_document(row) for row in rows])
            return
        console = self._console()
        waiting = sum(row.set_aside_at is None for row in rows)
        console.print(f"{waiting} waiting for Zammad, {len(rows) - waiting} set aside", highlight=False)
        if rows:
            console.print(_table(rows))
            console.print(
                "`ami2zammad outbox retry ID` tries one again with its entry, `discard ID` deletes it.", highlight=False
            )

    def show(self, ids: Sequence[int]) -> bool:
        """Show some events in full; say whether all of them are there."""
        ids = list(dict.fromkeys(ids))
        rows = self._rows(ids)
        if self._as_json:
            self._print_json([_document(row) for row in rows])
        else:
            console = self._console()
            for row in rows:
                for name, value in _document(row).items():
                    console.print(f"{name:16} {value}", highlight=False, markup=False, soft_wrap=True)
                console.print()
        return len(rows) == len(ids)

    def retry(self, ids: Sequence[int] | None) -> int:
        """Let events that were set aside (None: all) be tried again, each with its entry; return how many."""
        return self._edited("retried", self._store.retry, ids)

    def discard(self, ids: Sequence[int] | None) -> int:
        """Delete events (None: all that were set aside); return how many."""
        return self._edited("discarded", self._store.discard, ids)

    def _edited(self, done: str, edit: Any, ids: Sequence[int] | None) -> int:  # noqa: ANN401 - a method of the store
        try:
            count = int(edit(ids))
        except StoreTrouble as trouble:
            raise OutboxUnreadableError(f"{self._store.path} cannot be changed: {trouble}") from None
        if self._as_json:
            self._print_json({done: count})
        else:
            self._console().print(f"{count} {done}", highlight=False)
        return count

    def _rows(self, ids: Sequence[int] | None) -> list[Row]:
        try:
            return self._store.events(ids)
        except StoreTrouble as trouble:
            raise OutboxUnreadableError(f"{self._store.path} cannot be read: {trouble}") from None

    def _print_json(self, document: object) -> None:
        self._output.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")

    def _console(self) -> Console:
        console = Console(file=self._output)
        if not console.is_terminal:
            console.width = max(console.width, _WIDTH)
        return console


def _document(row: Row) -> dict[str, object]:
    try:
        body: object = json.loads(row.body)
    except ValueError:
        body = row.body
    return {
        "id": row.id,
        "state": "waiting" if row.set_aside_at is None else "set aside",
        "call_id": row.call_id,
        "kind": row.kind,
        "since": _time(row.at),
        "set_aside_at": _time(row.set_aside_at) if row.set_aside_at is not None else None,
        "failed_attempts": row.attempts,
        "reason": row.reason,
        "event": body,
    }


def _table(rows: Sequence[Row]) -> Table:
    table = Table()
    for heading in ("id", "state", "call_id", "kind", "since (UTC)", "attempts", "reason"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        state = "waiting" if row.set_aside_at is None else "set aside"
        cells = [str(row.id), state, row.call_id, row.kind, _time(row.at), str(row.attempts), row.reason]
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
