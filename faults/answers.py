"""Changes brokers' answers on their way; layouts: https://kafka.apache.org/protocol.html."""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["COMMIT", "FETCH", "HEARTBEAT", "JOIN", "PRODUCE", "commit_codes"]

PRODUCE, FETCH, COMMIT, JOIN, HEARTBEAT = 0, 1, 8, 11, 12


def commit_codes(code: int) -> Callable[[bytes], bytes]:
    """Return an OffsetCommit answer (version 3) with this error code for every partition.

    throttle_time int32, topics: [name string, partitions: [partition int32, error int16]]
    """

    def change(body: bytes) -> bytes:
        changed = bytearray(body)
        at = 4
        (topics,) = struct.unpack_from(">i", body, at)
        at += 4
        for _ in range(topics):
            (length,) = struct.unpack_from(">h", body, at)
            at += 2 + length
            (partitions,) = struct.unpack_from(">i", body, at)
            at += 4
            for _ in range(partitions):
                struct.pack_into(">h", changed, at + 4, code)
                at += 6
        return bytes(changed)

    return change
