"""An open loop of plans: so many a second are sent, whatever becomes of them.

Run as a program it takes its orders as one argument and answers with one line of counts. A closed
loop would slow down with the services and so hide what an overload does. Deliberately absent:
latencies. This process is busy with sending; the meter's is not.
"""

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc

from bench.load import Call
from bench.work import PlanWork
from servicekit.serving.channel import open_channel
from servicekit.serving.tls import channel_credentials

TICK_S: Final = 0.002
"""Short, so that a flood is no row of bursts: a refusal would wait for those sent before it."""
CALL_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Orders:
    """Where to send, as whom (names of certificates), how many plans a second, for how long."""

    address: str
    server_name: str
    certificates: str
    callers: tuple[str, ...]
    user_id: str
    token_hash: str
    per_second: float
    seconds: float

    def encode(self) -> str:
        """Write this as one argument."""
        return json.dumps(asdict(self))


class _Counts:
    """How many calls ended in which way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.by_code: Counter[str] = Counter()

    def add(self, call: "grpc.Future[bytes]") -> None:
        code = call.code().name  # type: ignore[attr-defined]  # a future of a call is a call too
        with self._lock:
            self.by_code[code] += 1


def main() -> None:
    """Send at the pace ordered, wait until every call has ended, print the counts."""
    orders = Orders(**json.loads(sys.argv[1]))
    work = PlanWork(orders.user_id, orders.token_hash)
    directory = Path(orders.certificates)
    channels = []
    for name in orders.callers:
        credentials = channel_credentials(
            directory / "ca.crt",
            directory / f"{name}.crt",
            directory / f"{name}.key",
            now=datetime.now(UTC),
        )
        channel = open_channel(orders.address, credentials, orders.server_name)
        grpc.channel_ready_future(channel).result(CALL_TIMEOUT_S)
        channels.append(channel)
    calls: list[Call] = [channel.unary_unary(work.method) for channel in channels]
    counts = _Counts()
    print("ready", flush=True)
    sys.stdin.readline()
    first = time.perf_counter()
    sent = 0
    while (now := time.perf_counter()) < first + orders.seconds:
        due = int((now - first) * orders.per_second)
        for number in range(sent, due):
            request = work.request(f"flood-{number:08d}")
            call = calls[number % len(calls)].future(request, timeout=CALL_TIMEOUT_S)
            call.add_done_callback(counts.add)
        sent = max(sent, due)
        time.sleep(TICK_S)
    while sum(counts.by_code.values()) < sent:
        time.sleep(TICK_S)
    for channel in channels:
        channel.close()
    print(json.dumps({"sent": sent, **counts.by_code}), flush=True)


if __name__ == "__main__":
    main()
