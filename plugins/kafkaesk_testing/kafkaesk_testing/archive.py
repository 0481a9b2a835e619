"""A class-data archive of the broker: it halves the time to start, and is made once per Java."""

import fcntl
import logging
import os
import tempfile
from pathlib import Path

from .errors import KafkaTestingError
from .guard import Guard
from .jars import cache_directory
from .java import Java
from .node import KafkaNode
from .ports import free_ports
from .properties import CONTROLLER, INTERNAL, server_properties

logger = logging.getLogger("kafkaesk.testing.archive")


def class_archive(java: Java) -> Path | None:
    """Return the archive for this Java, made now if need be; None if it cannot be had.

    While another process makes it, this one goes on without. A failure is logged and not tried
    again until the cache directory is deleted.
    """
    cache = cache_directory()
    archive = cache / f"classes-{java.fingerprint}.jsa"
    refused = archive.with_suffix(".refused")
    if archive.exists():
        return archive
    if refused.exists():
        return None
    with archive.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _make(java, cache, archive)
        except BlockingIOError:
            return None
        except (OSError, KafkaTestingError) as error:
            logger.warning("no class-data archive, brokers start slower: %s", error)
            refused.touch()
            return None
    return archive


def _make(java: Java, cache: Path, archive: Path) -> None:
    """Run a broker of its own until it is ready: what it loaded by then is archived as it ends."""
    with tempfile.TemporaryDirectory(prefix="archive-", dir=cache) as scratch:
        made = Path(scratch) / archive.name
        guard = Guard()
        broker, controller = free_ports(2)
        ports = {INTERNAL: broker, CONTROLLER: controller}
        node = KafkaNode(1, directory=Path(scratch) / "n1", ports=ports, guard=guard)
        properties = server_properties(
            1, ports={1: ports}, listeners=(), data=node.data, fast_failover=True
        )
        options = [f"-XX:ArchiveClassesAtExit={made}"]
        guard.start()
        try:
            node.prepare(java, cluster_id="a" * 22, properties=properties, jvm_options=options)
            made.unlink(missing_ok=True)
            node.start()
            node.terminate()
        finally:
            node.kill()
            guard.stop()
        os.replace(made, archive)
