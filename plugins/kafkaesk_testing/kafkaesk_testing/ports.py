"""Free TCP ports for brokers."""

import random
import socket

# Below the ports that systems give to outgoing connections (32768 and above on Linux): else a
# client that reconnects to a killed broker may be given the broker's own port as its local one,
# connect to itself, and keep the broker from starting again.
_CANDIDATES = range(20000, 32768)


def free_ports(count: int) -> list[int]:
    """Return distinct ports on which nothing listens now, without reserving them.

    Raises:
        OSError: fewer than ``count`` candidates are free.
    """
    found: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if len(found) == count:
            return found
        if _is_free(port):
            found.append(port)
    raise OSError(f"found {len(found)} free ports of {count} between 20000 and 32767")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
