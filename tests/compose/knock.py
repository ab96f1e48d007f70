"""Knock at TCP addresses from inside a container; mounted nowhere, handed to `python -c`.

Arguments are `host:port`; one line of JSON says for each what came of it: "connected", "refused",
"no answer", "no such name" or the system's own word. Only the standard library: any image has it.
"""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

PATIENCE_S = 1.5


def knock(target: str) -> str:
    """Return what came of one attempt."""
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PATIENCE_S):
            return "connected"
    except socket.gaierror:
        return "no such name"
    except TimeoutError:
        return "no answer"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return str(error)


with ThreadPoolExecutor(64) as pool:
    answers = dict(zip(sys.argv[1:], pool.map(knock, sys.argv[1:]), strict=True))
sys.stdout.write(json.dumps(answers))
