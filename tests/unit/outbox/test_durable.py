"""The outbox with its file: what is on disk when, what comes back, and what a disk in trouble does to it.

Real SQLite; time is moved by the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ami2zammad.calls.events import CallEvent, Cause, Hangup
from ami2zammad.outbox import Outbox, OutboxError, OutboxRules, _journal, outbox as outbox_module
from ami2zammad.outbox.outbox import LATE_AFTER, LATE_AT_ONCE
from ami2zammad.outbox.records import to_text
from ami2zammad.outbox.store import Contents, Row, Store, StoreTrouble, Transaction
from tests.fake_time import FakeTime
from tests.unit.zammad.samples import answer, entry, hangup, new_call

NOON = 1_795_000_000.0


class Refused(Exception):  # noqa: N818 - as the real one
    """What the stand-in raises for events that will never be taken."""


class Zammad:
    """Takes events when it is `up`, in the order of their arrival."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[CallEvent] = []
        self.arrived: list[CallEvent] = []
        self.on_disk_at_arrival: list[bool] = []
        self.refuses: Callable[[CallEvent], bool] = lambda _: False
        self.up = asyncio.Event()
        self.up.set()

    async def deliver(self, event: CallEvent) -> str:
        self.arrived.append(event)
        # In the middle of being set aside the file cannot be read.
        with contextlib.suppress(sqlite3.Error):
            self.on_disk_at_arrival.append((event.call_id, type(event).__name__.lower()) in on_disk(self.path))
        await self.up.wait()
        if self.refuses(event):
            raise Refused("Zammad says no")
        self.taken.append(event)
        return ""


class Scene:
    """An outbox that runs on a file, with a time of its own."""

    def __init__(self, path: Path, time: FakeTime, zammad: Zammad, **rules: float) -> None:
        self.time = time
        self.calls: dict[str, str] = {}
        self.resumed: list[Mapping[str, str]] = []
        self.outbox: Outbox[str] = Outbox(
            zammad,
            refusal=Refused,
            rules=OutboxRules(path=path, **rules),  # type: ignore[arg-type]
            on_calls=self.resumed.append,
            all_calls=lambda: self.calls,
            clock=time.clock,
            wall=lambda: NOON + time.now,
            sleep=time.sleep,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Outbox[str]]:
        async with self.outbox.opened() as calls:
            self.resumed.append(calls)
            task = asyncio.create_task(self.outbox.run())
            try:
                yield self.outbox
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def later(self, seconds: float) -> None:
        """Let time pass, but not for what SQLite is at: it takes real time."""
        journal = self.outbox._journal
        assert journal is not None
        await until(lambda: not journal._being_written and (journal.problem or not journal._pending))
        await self.time.advance(seconds)

    def put(self, events: Iterable[CallEvent]) -> None:
        for event in events:
            self.outbox.put(event, event.call_id.partition("-")[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
async def zammad(path: Path) -> Zammad:
    return Zammad(path)


def on_disk(path: Path, table: str = "event") -> list[tuple[str, str]]:
    """Return (callId, kind) of all events in the file that wait, as another program sees them; or all calls."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path)) as database:
        if table == "call":
            return list(database.execute("SELECT call_id, document FROM call ORDER BY call_id"))
        return list(database.execute("SELECT call_id, lower(kind) FROM event WHERE set_aside_at IS NULL ORDER BY id"))


def set_aside(path: Path) -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return list(
            database.execute("SELECT call_id, kind, reason FROM event WHERE set_aside_at IS NOT NULL ORDER BY id")
        )


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread brings about."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - SQLite's thread wakes nobody of ours
            await asyncio.sleep(0.001)


async def test_an_event_is_on_disk_when_it_is_sent_and_gone_when_it_was_taken(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        scene.put(entry())
        await until(lambda: len(zammad.taken) == 3 and not on_disk(path))
        assert outbox.waiting == 0
    assert zammad.taken == entry()
    assert zammad.on_disk_at_arrival == [True, True, True]


async def test_what_waits_when_the_bridge_ends_is_delivered_at_the_next_start(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad)
    async with scene.running():
        scene.put([*entry("1"), *entry("2")])
        await until(lambda: len(on_disk(path)) == 6)
    assert zammad.taken == []
    zammad.up.set()
    async with Scene(path, time, zammad).running():
        await until(lambda: len(zammad.taken) == 6 and not on_disk(path))
    for call_id in ("1", "2"):
        assert [type(event).__name__ for event in zammad.taken if event.call_id == call_id] == [
            "NewCall", "Answer", "Hangup",
        ]  # fmt: skip


async def test_the_death_of_the_process_loses_nothing_that_is_on_disk(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    """The file is used again without ever having been closed: as after SIGKILL."""
    zammad.up.clear()
    dead = Scene(path, time, zammad)
    contents = dead.outbox.opened()
    await contents.__aenter__()
    task = asyncio.create_task(dead.outbox.run())
    dead.put(entry("1"))
    await until(lambda: len(on_disk(path)) == 3)
    task.cancel()
    await asyncio.wait([task])
    # The lock dies with a process; this one lives.
    assert dead.outbox._journal is not None
    dead.outbox._journal._store.release()
    zammad.up.set()
    async with Scene(path, time, zammad).running():
        await until(lambda: len(zammad.taken) == 3)
    await contents.__aexit__(None, None, None)


async def test_the_documents_of_live_calls_come_back(path: Path, time: FakeTime, zammad: Zammad) -> None:
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        outbox.remember({"1": "one", "2": "two"})
        outbox.remember({"2": None, "3": "three"})
        await until(lambda: on_disk(path, "call") == [("1", "one"), ("3", "three")])
        # What is put in just before the end is written too.
        outbox.remember({"4": "four"})
    again = Scene(path, time, zammad)
    async with again.running():
        assert again.resumed == [{"1": "one", "3": "three", "4": "four"}]


async def test_a_call_s_document_is_written_together_with_its_event(path: Path, time: FakeTime, zammad: Zammad) -> None:
    commits: list[Transaction] = []

    class Watched(Store):
        def commit(self, transaction: Transaction) -> None:
            commits.append(transaction)
            super().commit(transaction)

    scene = Scene(path, time, zammad)
    assert scene.outbox._journal is not None
    scene.outbox._journal._store = Watched(path)
    async with scene.running() as outbox:
        outbox.remember({"1": "ringing"})
        scene.put([new_call("1")])
        await until(lambda: zammad.taken)
    first = commits[0]
    assert [one.call_id for one in first.rows.values()] == ["1"]
    assert first.calls == {"1": "ringing"}
    assert first.urgent


async def test_how_often_it_was_tried_and_why_in_vain_can_be_looked_up(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        scene.put(entry())
        await until(lambda: zammad.arrived)
        for _ in range(3):
            outbox.set_back(zammad.arrived[0], "HTTP 500", alone=True)

        def noted() -> bool:
            with contextlib.closing(sqlite3.connect(path)) as database:
                return database.execute("SELECT reason FROM event WHERE attempts > 0").fetchall() == [("HTTP 500",)]

        await until(noted)


# -- setting aside -----------------------------------------------------------------------------------------------------


async def test_what_zammad_refuses_is_set_aside_with_the_rest_of_its_entry(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.refuses = lambda event: event.call_id == "1"
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        scene.put([new_call("1"), answer(new_call("1")), *entry("1-2")])
        await until(lambda: len(zammad.taken) == 3)
        scene.put([hangup(new_call("1"))])
        await until(lambda: len(set_aside(path)) == 3)
        assert outbox.dead_letters == 3
    assert set_aside(path) == [
        ("1", "newCall", "Zammad says no"),
        ("1", "answer", "its newCall was given up"),
        ("1", "hangup", "its newCall was given up"),
    ]
    assert {event.call_id for event in zammad.taken} == {"1-2"}


async def test_what_is_too_old_is_set_aside_as_a_whole_but_what_was_begun_is_ended(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    scene = Scene(path, time, zammad, max_age=3600)
    async with scene.running() as outbox:
        scene.put([new_call("begun")])
        await until(lambda: len(zammad.taken) == 1)
        zammad.up.clear()
        scene.put([hangup(new_call("begun"))])
        # All eight places are taken by calls of which an attempt is under way.
        for number in range(7):
            scene.put([new_call(f"tried{number}")])
        await until(lambda: len(zammad.arrived) == 9)
        scene.put(entry("old")[:2])
        await scene.later(3000)
        scene.put([new_call("young")])
        with capture_logs() as logs:
            # Not a moment longer: time that runs on while SQLite writes is a disk that does not answer.
            await scene.later(660)
            await until(lambda: len(set_aside(path)) == 2)
        assert [line["event"] for line in logs] == ["outbox.too_old"]
        # What comes late to an entry that was given up goes the same way.
        scene.put([hangup(new_call("old"))])
        assert outbox.waiting == 9
        zammad.up.set()
        await until(lambda: outbox.waiting == 0)
    assert set_aside(path) == [
        ("old", "newCall", "older than outbox.max_age"),
        ("old", "answer", "older than outbox.max_age"),
        ("old", "hangup", "its newCall was given up"),
    ]
    assert {event.call_id for event in zammad.taken} == {"begun", "young", *(f"tried{number}" for number in range(7))}


async def test_the_age_counts_over_a_restart_and_a_clock_that_was_set_back_ages_nothing(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.up.clear()
    with contextlib.closing(Store(path)) as store:
        store.open()
        rows = {
            number: Row(number, f"{number}", f"{number}", "newCall", at, to_text(new_call(f"{number}")))
            for number, at in ((1, NOON + 1000 - 4000), (2, NOON + 1000 - 1000), (3, NOON + 1e9))
        }
        store.commit(Transaction(rows))
    scene = Scene(path, time, zammad, max_age=3600)
    # So that none of them is under way.
    scene.outbox._concurrency = 0
    async with scene.running() as outbox:
        await scene.later(61)
        await until(lambda: len(set_aside(path)) == 1)
        assert set_aside(path) == [("1", "newCall", "older than outbox.max_age")]
        assert outbox.waiting == 2


async def test_at_the_limit_the_oldest_entries_of_which_nothing_was_sent_are_set_aside(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad, limit=30)
    async with scene.running() as outbox:
        for number in range(8):
            scene.put([new_call(f"under way {number}")])
        await until(lambda: len(zammad.arrived) == 8)
        with capture_logs() as logs:
            for number in range(10):
                scene.put(entry(f"{number}"))
        assert outbox.waiting <= 30
        assert [line["event"] for line in logs] == ["outbox.full"]
        await until(lambda: len(set_aside(path)) == 9)
    assert [call_id for call_id, kind, _ in set_aside(path) if kind == "newCall"] == ["0", "1", "2"]


async def test_what_was_set_aside_can_be_tried_again_while_the_bridge_runs(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.refuses = lambda _: True
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        scene.put(entry())
        await until(lambda: len(set_aside(path)) == 3)
        zammad.refuses = lambda _: False
        with contextlib.closing(Store(path)) as admin:
            admin.open()
            admin.retry(None)
        await scene.later(_journal.LOOK_EVERY)
        await until(lambda: len(zammad.taken) == 3)
        await until(lambda: not on_disk(path))
        assert outbox.dead_letters == 0
    assert [type(event).__name__ for event in zammad.taken] == ["NewCall", "Answer", "Hangup"]


async def test_the_loop_goes_on_while_very_many_are_taken_in(path: Path, time: FakeTime, zammad: Zammad) -> None:
    many = 10 * outbox_module.TAKEN_IN_AT_ONCE
    text = to_text(new_call("1"))
    rows = {number: Row(number, f"{number}", f"{number}", "newCall", NOON, text) for number in range(1, many + 1)}
    zammad.up.clear()
    scene = Scene(path, time, zammad)
    turns = 0

    async def live() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 0 < scene.outbox.waiting < many

    other = asyncio.create_task(live())
    async with scene.running() as outbox:
        await outbox._edited(Contents(list(rows.values())))
        assert outbox.waiting == many
    other.cancel()
    assert turns >= 9


async def test_a_call_whose_new_call_is_tried_again_while_it_is_live_gets_its_hangup(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.refuses = lambda _: True
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        scene.put([new_call("1")])
        await until(lambda: len(set_aside(path)) == 1)
        zammad.refuses = lambda _: False
        with contextlib.closing(Store(path)) as admin:
            admin.open()
            admin.retry(None)
        await scene.later(_journal.LOOK_EVERY)
        await until(lambda: len(zammad.taken) == 1)
        scene.put([hangup(new_call("1"), Cause.CANCEL)])
        await until(lambda: len(zammad.taken) == 2)
        assert outbox.dead_letters == 0


async def test_a_bridge_that_always_has_something_to_write_still_notices_that(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.refuses = lambda event: event.call_id == "1"
    scene = Scene(path, time, zammad)
    async with scene.running():
        scene.put(entry("1"))
        await until(lambda: len(set_aside(path)) == 3)
        zammad.refuses = lambda _: False
        with contextlib.closing(Store(path)) as admin:
            admin.open()
            admin.retry(None)
        for number in range(2, 8):
            scene.put(entry(str(number)))
            await scene.later(_journal.LOOK_EVERY / 2)
        await until(lambda: sum(event.call_id == "1" for event in zammad.taken) == 3)


async def test_what_waits_can_be_discarded_while_the_bridge_runs(path: Path, time: FakeTime, zammad: Zammad) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        scene.put(entry("1"))
        await until(lambda: zammad.arrived)
        scene.put([hangup(new_call("2"), Cause.CANCEL)])
        await until(lambda: len(on_disk(path)) == 4)
        with contextlib.closing(Store(path)) as admin:
            admin.open()
            admin.discard([one.id for one in admin.events() if one.kind != "newCall" and one.call_id == "1"])
        await scene.later(_journal.LOOK_EVERY)
        await until(lambda: outbox.waiting == 2)
        zammad.up.set()
        await until(lambda: outbox.waiting == 0)
    assert {(event.call_id, type(event).__name__) for event in zammad.taken} == {("1", "NewCall"), ("2", "Hangup")}


async def test_an_event_that_makes_no_sense_is_set_aside_and_the_others_go_on(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    with contextlib.closing(Store(path)) as store:
        store.open()
        good = Row(2, "2", "2", "newCall", NOON, to_text(new_call("2")))
        store.commit(Transaction({1: Row(1, "1", "1", "newCall", NOON, "{"), 2: good}))
    with capture_logs() as logs:
        async with Scene(path, time, zammad).running():
            await until(lambda: zammad.taken and set_aside(path))
    assert [line["event"] for line in logs] == ["outbox.unreadable"]
    assert set_aside(path)[0][:2] == ("1", "newCall")


# -- live calls first --------------------------------------------------------------------------------------------------


async def test_live_calls_go_ahead_of_what_is_caught_up_with_and_that_is_bounded(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad, drain_rate=1.0)
    async with scene.running() as outbox:
        for number in range(8):
            scene.put([new_call(f"under way {number}")])
        await until(lambda: len(zammad.arrived) == 8)
        for number in range(5):
            scene.put([new_call(f"missed {number}"), hangup(new_call(f"missed {number}"), Cause.CANCEL)])
        await scene.later(3600)
        scene.put([new_call("live")])
        await until(lambda: len(on_disk(path)) == 8 + 10 + 1)
        await scene.later(0)
        zammad.up.set()
        await until(lambda: any(event.call_id == "live" for event in zammad.taken) and len(zammad.taken) == 8 + 1 + 2)
        order = [event.call_id for event in zammad.taken]
        assert order.index("live") < order.index("missed 0")
        # Two events at one a second: the next call may go after two seconds.
        await until(lambda: outbox.waiting == 8)
        for left in (6, 4, 2, 0):
            await scene.later(1.8)
            assert outbox.waiting == left + 2
            await scene.later(0.2)
            await until(lambda left=left: outbox.waiting == left)  # type: ignore[misc]
            # Live calls never wait for that.
            scene.put([new_call(f"live {left}")])
            await until(lambda left=left: outbox.waiting == left and zammad.taken[-1].call_id == f"live {left}")  # type: ignore[misc]
    assert [event.call_id for event in zammad.taken if isinstance(event, Hangup)] == [f"missed {n}" for n in range(5)]


async def test_calls_on_which_zammad_fails_hold_no_place(path: Path, time: FakeTime, zammad: Zammad) -> None:
    async def deliver(event: CallEvent) -> str:
        if event.call_id.startswith("poison"):
            scene.outbox.set_back(event, "HTTP 500", alone=True)
            await asyncio.Event().wait()
        return await Zammad.deliver(zammad, event)

    zammad.deliver = deliver  # type: ignore[method-assign]
    scene = Scene(path, time, zammad)
    async with scene.running():
        for number in range(50):
            scene.put([new_call(f"poison {number}")])
        scene.put(entry("good"))
        await until(lambda: len(zammad.taken) == 3)


async def test_late_calls_on_which_zammad_fails_do_not_end_the_catching_up(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    async def deliver(event: CallEvent) -> str:
        if event.call_id.startswith("poison"):
            scene.outbox.set_back(event, "HTTP 500", alone=True)
            await asyncio.Event().wait()
        return await Zammad.deliver(zammad, event)

    earlier = Scene(path, time, zammad)
    zammad.up.clear()
    async with earlier.running():
        for number in range(2 * LATE_AT_ONCE):
            earlier.put(entry(f"poison {number}"))
        earlier.put(entry("good"))
        await until(lambda: len(on_disk(path)) == 3 * (2 * LATE_AT_ONCE + 1))
    zammad.up.set()
    zammad.deliver = deliver  # type: ignore[method-assign]
    time.now += LATE_AFTER + 1
    scene = Scene(path, time, zammad)
    async with scene.running():
        for _ in range(4 * LATE_AT_ONCE):
            await scene.later(1)
        await until(lambda: len(zammad.taken) == 3)


# -- the disk ----------------------------------------------------------------------------------------------------------


class BadDisk(Store):
    """A file on a disk that fails when told to; what it says then is what the real ones say (see test_store)."""

    trouble: StoreTrouble | None = None
    stuck: threading.Event | None = None
    failed = 0
    looking = False

    def changed_by_others(self) -> Contents | None:
        if self.stuck is not None:
            self.looking = True
            self.stuck.wait(60)
        return super().changed_by_others()

    def commit(self, transaction: Transaction) -> None:
        if self.stuck is not None:
            self.stuck.wait(60)
        if self.trouble is not None:
            self.failed += 1
            raise self.trouble
        super().commit(transaction)


def with_bad_disk(scene: Scene, path: Path) -> BadDisk:
    assert scene.outbox._journal is not None
    disk = BadDisk(path, wall=lambda: NOON)
    scene.outbox._journal._store = disk
    return disk


async def test_on_a_full_disk_events_go_on_in_memory_and_are_written_when_there_is_space(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    scene = Scene(path, time, zammad)
    disk = with_bad_disk(scene, path)
    with capture_logs() as logs:
        async with scene.running() as outbox:
            disk.trouble = StoreTrouble("the disk is full")
            scene.put(entry("1"))
            await until(lambda: len(zammad.taken) == 3)
            zammad.up.clear()
            scene.put(entry("2"))
            outbox.remember({"2": "two"})
            await until(lambda: len(zammad.arrived) == 4)
            for _ in range(3):
                await scene.later(_journal.RETRY_AFTER)
            assert outbox.problem == "the disk is full"
            assert on_disk(path) == []
            disk.trouble = None
            await until(time.sleeping)
            await scene.later(_journal.RETRY_AFTER)
            await until(lambda: len(on_disk(path)) == 3)
            assert on_disk(path, "call") == [("2", "two")]
            await until(lambda: not outbox.problem)
            zammad.up.set()
            await until(lambda: not on_disk(path))
    assert [line["event"] for line in logs] == ["outbox.not_durable", "outbox.durable"]
    assert "outbox" in logs[0]["path"]
    assert str(path.parent) in logs[0]["remedy"]
    assert zammad.taken == [*entry("1"), *entry("2")]


async def test_a_disk_that_is_in_trouble_for_long_fills_no_memory(
    path: Path, time: FakeTime, zammad: Zammad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_journal, "DEAD_LETTERS_KEPT", 5)
    scene = Scene(path, time, zammad)
    disk = with_bad_disk(scene, path)
    async with scene.running() as outbox:
        zammad.up.clear()
        outbox.remember({"kept": "", "over": ""})
        scene.put([new_call("kept")])
        await until(lambda: on_disk(path))
        disk.trouble = StoreTrouble("the disk is full")
        outbox.remember({"over": None})
        zammad.up.set()
        for number in range(20):
            outbox.remember({str(number): ""})
            zammad.refuses = lambda event: event.call_id.endswith("7")
            scene.put(entry(str(number)))
            await until(lambda: outbox.problem and not outbox.waiting)
            outbox.remember({str(number): None})
            failed = disk.failed
            await scene.later(_journal.RETRY_AFTER)
            await until(lambda failed=failed: disk.failed > failed)  # type: ignore[misc]
            await scene.later(0)
        assert outbox._journal is not None
        pending = outbox._journal._pending
        assert (len(pending.deleted), pending.calls, len(pending.rows)) == (1, {"over": None}, 5)
        disk.trouble = None
        await scene.later(_journal.RETRY_AFTER)
        await until(lambda: not outbox.problem)
    assert on_disk(path) == []
    assert on_disk(path, "call") == [("kept", "")]
    assert len(set_aside(path)) == 5


async def test_a_disk_that_does_not_answer_delays_an_event_by_seconds_only(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    scene = Scene(path, time, zammad)
    disk = with_bad_disk(scene, path)
    disk.stuck = threading.Event()
    with capture_logs() as logs:
        async with scene.running() as outbox:
            scene.put([new_call("1")])
            await time.advance(_journal.PATIENCE - 0.1)
            assert zammad.arrived == []
            await time.advance(0.2)
            await until(lambda: zammad.taken)
            # Nobody waits any more from now on.
            scene.put([new_call("2")])
            await until(lambda: len(zammad.taken) == 2)
            disk.stuck.set()
            await until(lambda: not outbox.problem)
            await until(lambda: not on_disk(path))
    assert [line["event"] for line in logs] == ["outbox.not_durable", "outbox.durable"]
    assert logs[0]["problem"] == "the disk does not answer"


async def test_a_disk_that_hangs_does_not_hold_up_the_end(path: Path, time: FakeTime, zammad: Zammad) -> None:
    scene = Scene(path, time, zammad)
    disk = with_bad_disk(scene, path)
    opened = scene.outbox.opened()
    await opened.__aenter__()
    disk.stuck = threading.Event()
    scene.put([new_call("1")])
    with capture_logs() as logs:
        ending = asyncio.create_task(opened.__aexit__(None, None, None))
        await until(time.sleeping)
        assert not ending.done()
        await time.advance(_journal.PATIENCE)
        await until(ending.done)
    assert [line["event"] for line in logs] == ["outbox.not_durable"]
    # The thread goes on with what it is at. Nothing closes the file then but the end of the process.
    disk.stuck.set()
    await until(lambda: on_disk(path))
    disk.close()
    disk.release()


async def test_deletions_are_written_soon_even_after_one_of_what_is_not_in_the_file(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        assert outbox._journal is not None
        outbox._journal.delete(77)
        await until(lambda: outbox._journal is not None and outbox._journal._lingering is None)
        outbox._journal.delete(78)
        assert outbox._journal._lingering is not None


async def test_a_disk_that_does_not_answer_when_it_is_looked_at_delays_no_event_either(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    scene = Scene(path, time, zammad)
    disk = with_bad_disk(scene, path)
    async with scene.running() as outbox:
        disk.stuck = threading.Event()
        await scene.later(_journal.LOOK_EVERY)
        await until(lambda: disk.looking)
        scene.put(entry("1"))
        await time.advance(_journal.PATIENCE)
        assert outbox.problem == "the disk does not answer"
        await until(lambda: len(zammad.taken) == 3)
        disk.stuck.set()
        await until(lambda: not outbox.problem)


async def test_a_file_that_is_found_damaged_is_set_aside_and_all_that_is_known_written_into_a_new_one(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad)
    disk = with_bad_disk(scene, path)
    scene.calls = {"1": "one"}
    with capture_logs() as logs:
        async with scene.running() as outbox:
            scene.put(entry("1"))
            await until(lambda: len(on_disk(path)) == 3)
            disk.trouble = StoreTrouble("it is damaged", damaged=True)
            scene.put(entry("2"))
            # The new file is no better at first; it is not set aside as well.
            await until(lambda: len(logs) == 2 and outbox.problem and disk.failed == 2)
            disk.trouble = None
            await scene.later(_journal.RETRY_AFTER)
            await until(lambda: len(on_disk(path)) == 6)
            await until(lambda: not outbox.problem)
            assert on_disk(path, "call") == [("1", "one")]
            scene.put(entry("3"))
            await until(lambda: len(on_disk(path)) == 9)
    assert [line["event"] for line in logs][:3] == ["outbox.not_durable", "outbox.damaged", "outbox.durable"]
    (kept,) = path.parent.glob("outbox.db.damaged-*[0-9]Z")
    assert logs[1]["kept_as"] == str(kept)
    assert len(on_disk(kept)) == 3


async def test_a_damaged_file_does_not_keep_the_bridge_from_starting(
    path: Path, time: FakeTime, zammad: Zammad
) -> None:
    path.write_bytes(b"a letter to the editor " * 100)
    scene = Scene(path, time, zammad)
    async with scene.running() as outbox:
        scene.put(entry())
        await until(lambda: len(zammad.taken) == 3)
        await until(lambda: not outbox.problem)
    (kept,) = path.parent.glob("outbox.db.damaged-*")
    assert kept.read_bytes().startswith(b"a letter")


async def test_a_folder_that_cannot_be_written_at_first_is_taken_up_later_with_what_waited_in_it(
    path: Path, time: FakeTime, zammad: Zammad, monkeypatch: pytest.MonkeyPatch
) -> None:
    zammad.up.clear()
    earlier = Scene(path, time, zammad)
    async with earlier.running() as outbox:
        earlier.put(entry("earlier"))
        outbox.remember({"earlier": "kept"})
        await until(lambda: len(on_disk(path)) == 3)
    zammad.up.set()

    def unwritable(_: Store) -> None:
        raise StoreTrouble("Read-only file system")

    scene = Scene(path, time, zammad)
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(Store, "claim", unwritable)
        async with scene.running() as outbox:
            scene.put(entry("now"))
            await until(lambda: len(zammad.taken) == 3)
            assert outbox.problem == "Read-only file system"
            patch.undo()
            await scene.later(_journal.RETRY_AFTER)
            await until(lambda: len(zammad.taken) == 6)
            await until(lambda: not on_disk(path) and not outbox.problem)
    assert scene.resumed == [{}, {"earlier": "kept"}]
    assert [line["event"] for line in logs] == ["outbox.not_durable", "outbox.durable"]


async def test_a_second_bridge_is_refused(path: Path, time: FakeTime, zammad: Zammad) -> None:
    async with Scene(path, time, zammad).running():
        with pytest.raises(OutboxError, match="in use by another ami2zammad"):
            async with Scene(path, time, zammad).running():
                pass
    async with Scene(path, time, zammad).running():
        pass


async def test_what_is_under_way_to_the_disk_at_the_end_is_written(path: Path, time: FakeTime, zammad: Zammad) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad)
    disk = with_bad_disk(scene, path)
    async with scene.running():
        disk.stuck = threading.Event()
        scene.put(entry("1"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        scene.put(entry("2"))
        threading.Timer(0.05, disk.stuck.set).start()
    assert len(on_disk(path)) == 6


@pytest.mark.parametrize("replacement", [None, b"somebody else's"])
async def test_a_file_that_is_taken_away_under_a_running_bridge_is_made_anew(
    path: Path, time: FakeTime, zammad: Zammad, replacement: bytes | None
) -> None:
    zammad.up.clear()
    scene = Scene(path, time, zammad)
    scene.calls = {"1": "one"}
    with capture_logs() as logs:
        async with scene.running() as outbox:
            scene.put(entry("1"))
            await until(lambda: len(on_disk(path)) == 3)
            await scene.later(0)
            path.unlink()
            if replacement:
                path.write_bytes(replacement)
            await scene.later(_journal.LOOK_EVERY)
            await until(lambda: path.exists() and not outbox.problem and len(logs) == 3)
            assert len(on_disk(path)) == 3
            assert on_disk(path, "call") == [("1", "one")]
    assert [line["event"] for line in logs] == ["outbox.not_durable", "outbox.damaged", "outbox.durable"]
    assert "deleted or replaced" in logs[0]["problem"]
    if replacement:
        assert Path(logs[1]["kept_as"]).read_bytes() == replacement
