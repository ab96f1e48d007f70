"""What is counted is counted once, under a name that was there before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from servicekit.exposition import UNREADABLE, Kind, Metric, Scrape
from servicekit.tally import OTHER, Counts, Durations


def test_every_key_is_there_at_zero() -> None:
    """A rate over a series that appears with its first event would hide that event."""
    assert Counts([("a",), ("b",)]).read() == {("a",): 0, ("b",): 0}


def test_a_name_outside_the_set_is_put_under_other() -> None:
    """Whoever chooses names makes one more series, and no second one."""
    counts = Counts([("a", "x")])

    for number in range(1000):
        counts.add(f"chosen-{number}", "y")

    assert counts.read() == {("a", "x"): 0, (OTHER, OTHER): 1000}


def test_threads_lose_no_count() -> None:
    """Every addition of every thread is there in the end."""
    counts = Counts([()])
    durations = Durations([()], (1.0,))

    def work(_: int) -> None:
        for _each in range(2000):
            counts.add()
            durations.observe(0.5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert counts.read() == {(): 16_000}
    assert durations.read()[()].counts == (16_000, 0)
    assert durations.read()[()].total == 8_000


def test_a_bound_is_inclusive_and_what_is_beyond_the_last_is_kept() -> None:
    """As `le` says."""
    durations = Durations([()], (1.0, 2.0))
    for amount in (0.5, 1.0, 1.5, 2.0, 9.0):
        durations.observe(amount)
    durations.observe(1.0, "nobody")

    assert durations.read()[()].counts == (2, 2, 1)


def test_a_histogram_is_told_cumulatively() -> None:
    """Each bucket holds all below it, the last one everything."""
    durations = Durations([()], (1.0, 2.0))
    for amount in (0.5, 1.5, 9.0):
        durations.observe(amount)

    text = Scrape([Metric("x_seconds", Kind.HISTOGRAM, "x", (), durations.read)]).text().decode()

    assert 'x_seconds_bucket{le="1.0"} 1.0\nx_seconds_bucket{le="2.0"} 2.0\n' in text
    assert 'x_seconds_bucket{le="+Inf"} 3.0\nx_seconds_count 3.0\nx_seconds_sum 11.0\n' in text


def test_what_cannot_be_read_is_left_out_and_counted() -> None:
    """One disk that does not answer does not hide that the service is halted."""

    def broken() -> dict[tuple[str, ...], float]:
        raise OSError("the disk is gone")

    text = (
        Scrape(
            [
                Metric("a_bytes", Kind.GAUGE, "a", (), broken),
                Metric("b_bytes", Kind.GAUGE, "b", (), lambda: {(): 7}),
            ]
        )
        .text()
        .decode()
    )

    assert "a_bytes" not in text
    assert "b_bytes 7.0" in text
    assert f"{UNREADABLE} 1.0" in text
