"""Names of hosts, looked up within a time: the system's resolver waits for as long as it is set to, and can't be told to stop."""

from __future__ import annotations

import queue
import socket
import threading

MOST_LOOKUPS = 16  # at one time, of one process; whoever nobody waits for any more goes on until the system gives up
_places = threading.BoundedSemaphore(MOST_LOOKUPS)


def addresses_of(host: str, port: int, within_s: float) -> list[str]:
    """Return the addresses of a host; ``OSError`` when it has none, ``TimeoutError`` when nobody said so in time."""
    if not _places.acquire(timeout=within_s):
        raise TimeoutError(f"{host} could not be looked up: too many names are being waited for")
    answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()
    threading.Thread(target=_look_up, args=(host, port, answer), daemon=True).start()
    try:
        found = answer.get(timeout=within_s)
    except queue.Empty:
        raise TimeoutError(f"nobody said within {within_s:.3g} s where {host} is") from None
    if isinstance(found, Exception):
        raise found
    return found


def _look_up(host: str, port: int, answer: queue.SimpleQueue[list[str] | Exception]) -> None:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        answer.put([str(entry[4][0]).partition("%")[0] for entry in entries])
    except Exception as error:  # noqa: BLE001 - raised where it is waited for
        answer.put(error)
    finally:
        _places.release()
