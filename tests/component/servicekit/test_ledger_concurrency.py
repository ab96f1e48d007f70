"""What many callers at once are promised: one order, shared syncs, operators first."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from servicekit.clock import SystemClock
from servicekit.store.ledger import Turn, Urgency, verify_log
from tests.component.servicekit.ledger_world import append, create_ledger, leaves_of, open_ledger

_THREADS = 32
_WORKS = 20


def test_many_threads_share_commits_and_leave_no_gap(tmp_path: Path) -> None:
    """Every work has its own run of numbers, none is missing; there were fewer syncs than works."""
    path = create_ledger(tmp_path)
    ledger = open_ledger(path, clock=SystemClock())
    taken: list[list[int]] = []
    start = threading.Barrier(_THREADS)

    def call(name: int) -> None:
        start.wait()
        for number in range(_WORKS):
            leaves = [b"%d/%d/%d" % (name, number, part) for part in range(3)]
            taken.append(ledger.commit(append(*leaves, kept=f"{name}/{number}")))

    run_all([partial(call, name) for name in range(_THREADS)])
    commits = ledger.commits
    stored = leaves_of(ledger)
    ledger.close()
    assert sorted(seq for seqs in taken for seq in seqs) == list(range(_THREADS * _WORKS * 3))
    assert all(seqs == list(range(seqs[0], seqs[0] + 3)) for seqs in taken)
    assert len(set(stored)) == _THREADS * _WORKS * 3
    assert commits < _THREADS * _WORKS
    verdict = verify_log(path)
    assert (verdict.problem, verdict.size) == (None, len(stored))


def test_an_operator_overtakes_a_queue_of_plans(tmp_path: Path) -> None:
    """Queued after many PLAN works, it is the first to run once the writer is free."""
    ledger = open_ledger(create_ledger(tmp_path), max_batch=4)
    entered, gate = threading.Event(), threading.Event()
    order: list[str] = []

    def hold(turn: Turn) -> None:
        entered.set()
        gate.wait(10)

    def mark(name: str) -> Callable[[Turn], None]:
        def work(turn: Turn) -> None:
            order.append(name)
            append(name.encode())(turn)

        return work

    threads = [threading.Thread(target=ledger.commit, args=(hold,))]
    threads[0].start()
    assert entered.wait(10)
    for number in range(20):
        threads.append(threading.Thread(target=ledger.commit, args=(mark(f"plan {number}"),)))
        threads[-1].start()
    threads.append(
        threading.Thread(
            target=ledger.commit, args=(mark("operator"),), kwargs={"urgency": Urgency.OPERATOR}
        )
    )
    while ledger.queue_depth < 20:
        pass
    threads[-1].start()
    while ledger.queue_depth < 21:
        pass
    gate.set()
    for thread in threads:
        thread.join(10)
    ledger.close()
    assert order[0] == "operator"
    assert len(order) == 21


def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    """Works that were taken before the close are done, and their callers are told so."""
    path = create_ledger(tmp_path)
    ledger = open_ledger(path, max_batch=2)
    entered, gate = threading.Event(), threading.Event()
    done: list[list[int]] = []

    def hold(turn: Turn) -> None:
        entered.set()
        gate.wait(10)

    threads = [threading.Thread(target=ledger.commit, args=(hold,))]
    threads[0].start()
    assert entered.wait(10)
    for number in range(10):
        work = append(b"%d" % number)
        threads.append(threading.Thread(target=lambda work=work: done.append(ledger.commit(work))))
        threads[-1].start()
    while ledger.queue_depth < 10:
        pass
    closer = threading.Thread(target=ledger.close)
    closer.start()
    gate.set()
    for thread in (*threads, closer):
        thread.join(10)
    assert sorted(done) == [[number] for number in range(10)]
    assert verify_log(path).size == 10


def test_readers_read_while_the_writer_writes(tmp_path: Path) -> None:
    """What a reader sees is always a whole commit: as many rows as the head says."""
    path = create_ledger(tmp_path)
    ledger = open_ledger(path, clock=SystemClock())
    stop = threading.Event()
    torn: list[object] = []

    def watch() -> None:
        while not stop.is_set():
            ((count, size),) = ledger.read(
                lambda reader: reader.rows(
                    "SELECT (SELECT count(*) FROM events), (SELECT size FROM ledger_head)"
                )
            )
            if count != size:
                torn.append((count, size))

    watchers = [threading.Thread(target=watch) for _ in range(3)]
    for watcher in watchers:
        watcher.start()

    def write(name: int) -> None:
        for number in range(25):
            ledger.commit(append(b"%d" % name, b"%d %d" % (name, number)))

    run_all([partial(write, name) for name in range(8)])
    verdict = verify_log(path)
    stop.set()
    for watcher in watchers:
        watcher.join(10)
    ledger.close()
    assert torn == []
    assert (verdict.problem, verdict.size) == (None, 400)


def run_all(calls: list[Callable[[], object]]) -> None:
    """Run each call on a thread of its own, and wait for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
