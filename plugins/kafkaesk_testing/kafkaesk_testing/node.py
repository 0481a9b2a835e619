"""One broker of real Apache Kafka: a JVM that can be killed, frozen and restarted."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import KafkaBrokerError
from .properties import INTERNAL, write_properties
from .readiness import wait_until_ready

if TYPE_CHECKING:
    from .kafka_install import Java

# Without "disable" the log ends with SIGTERM, before the broker does.
_LOG4J = """\
shutdownHook = disable
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
"""
_MEMORY = ("-Xms64m", "-Xmx128m")


class KafkaNode:
    """A combined broker and controller, controlled by its process id.

    Every method blocks until it is done. In an async test, call it as ``await
    asyncio.to_thread(node.kill)``, or it also blocks the event loop under test. Do not call two
    methods of one node at the same time.
    """

    def __init__(
        self, node_id: int, *, directory: Path, ports: Mapping[str, int], guard: Guard
    ) -> None:
        self.id = node_id
        self.directory = directory
        self._ports = ports
        self._guard = guard
        self._command: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._is_frozen = False

    @property
    def address(self) -> str:
        """The plain internal listener, as ``host:port``."""
        return self.address_of(INTERNAL)

    @property
    def data(self) -> Path:
        """The directory of the broker's data."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The file of the broker's log, for all of its starts."""
        return self.directory / "kafka.log"

    @property
    def pid(self) -> int | None:
        """The id of the broker's process; None while there is no process."""
        return self._process.pid if self._process and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether the process exists, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_frozen(self) -> bool:
        """Whether the process was stopped by `freeze`."""
        return self._is_frozen and self.is_running

    def port_of(self, listener: str) -> int:
        """Return the port on which the broker listens, whatever it advertises."""
        return self._ports[listener]

    def address_of(self, listener: str) -> str:
        """Return ``host:port`` on which the broker listens, whatever it advertises."""
        return f"127.0.0.1:{self._ports[listener]}"

    def prepare(
        self,
        java: Java,
        *,
        cluster_id: str,
        properties: Mapping[str, str],
        format_arguments: Sequence[str] = (),
        jvm_options: Sequence[str] = (),
    ) -> None:
        """Write the configuration and format the data directory.

        Raises:
            KafkaBrokerError: Kafka refused the configuration.
        """
        self.directory.mkdir(parents=True)
        file, log4j = self.directory / "server.properties", self.directory / "log4j2.properties"
        write_properties(file, properties)
        log4j.write_text(_LOG4J)
        options = [*_MEMORY, f"-Dlog4j2.configurationFile={log4j}", *jvm_options]
        arguments = ["format", "-t", cluster_id, "-c", str(file), *format_arguments]
        with self.log.open("ab") as log:
            done = subprocess.run(
                java.command("kafka.tools.StorageTool", *arguments, options=options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=60,
            )
        if done.returncode:
            raise KafkaBrokerError(f"kafka cannot format node {self.id}: {self._last_words()}")
        self._command = java.command("kafka.Kafka", str(file), options=options)

    def start(self, *, wait: bool = True, timeout: float = 60.0) -> None:
        """Start the process; with ``wait``, wait until the broker is ready.

        Without a majority of the nodes no broker becomes ready: start several with ``wait=False``.

        Raises:
            KafkaBrokerError: the process ended, or was not ready within ``timeout``.
        """
        if self.is_running:
            raise KafkaBrokerError(f"node {self.id} runs already")
        self.kill()  # forgets one that ended by itself
        self._is_frozen = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard.add(self._process.pid)
        if wait:
            self.wait_until_ready(timeout=timeout)

    def wait_until_ready(
        self, *, expected_ids: Iterable[int] = (), in_sync: bool = False, timeout: float = 60.0
    ) -> None:
        """Block until the broker knows itself, the other expected brokers, and a group coordinator.

        With ``in_sync``, block until every replica of every partition is also in sync.

        Raises:
            KafkaBrokerError: the process ended, or was not ready within ``timeout``.
        """
        try:
            wait_until_ready(
                self.address,
                expected_ids={self.id, *expected_ids},
                in_sync=in_sync,
                timeout=timeout,
                is_alive=lambda: self.is_running,
            )
        except KafkaBrokerError as error:
            raise KafkaBrokerError(f"node {self.id}: {error}: {self._last_words()}") from error

    def kill(self) -> None:
        """End the process with SIGKILL, frozen or not; without a process, do nothing."""
        self._end(signal.SIGKILL, timeout=30.0)

    def terminate(self, *, timeout: float = 30.0) -> None:
        """End the process gracefully with SIGTERM; thaw a frozen process first.

        Raises:
            KafkaBrokerError: the process did not end within ``timeout``.
        """
        self.thaw()
        self._end(signal.SIGTERM, timeout=timeout)

    def freeze(self) -> None:
        """Stop the process with SIGSTOP: connections stay open, but nothing is answered.

        Raises:
            KafkaBrokerError: there is no process.
        """
        pid = self._running_pid()
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._is_frozen = True

    def thaw(self) -> None:
        """Continue a frozen process with SIGCONT; otherwise do nothing."""
        if self.is_frozen:
            os.kill(self._running_pid(), signal.SIGCONT)
        self._is_frozen = False

    def restart(self, *, wait: bool = True, timeout: float = 60.0) -> None:
        """Restart with the same data and ports, after SIGTERM if the process still runs.

        Raises:
            KafkaBrokerError: the process did not end, or the broker was not ready within
                ``timeout``.
        """
        self.terminate(timeout=timeout)
        self.start(wait=wait, timeout=timeout)

    def _running_pid(self) -> int:
        pid = self.pid
        if pid is None:
            raise KafkaBrokerError(f"node {self.id} does not run")
        return pid

    def _end(self, number: signal.Signals, *, timeout: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self._process = process
            text = f"node {self.id} did not end within {timeout:g} seconds of {number.name}"
            raise KafkaBrokerError(text) from error
        self._guard.remove(process.pid)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if "ERROR" in line or "Exception" in line] or lines
        return f"{' / '.join(telling[-2:])[:500]} (log: {self.log})"


# --- brokers end with the process that started them

# The pipe is closed by the system however the parent ends, SIGKILL included; then what is still
# listed is killed. What was ended in order is taken off the list: its id may be used again.
_SCRIPT = """
pids=
while read -r action pid; do
    kept=
    for known in $pids; do
        [ "$known" = "$pid" ] || kept="$kept $known"
    done
    pids=$kept
    [ "$action" = add ] && pids="$pids $pid"
done
[ -z "$pids" ] || kill -9 $pids
"""


class Guard:
    """A shell that waits for this process to end, and then kills the registered processes."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the shell, in its own session: Ctrl-C does not reach it."""
        self._shell = subprocess.Popen(
            ["sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, pid: int) -> None:
        """Kill the process ``pid`` if this process ends."""
        self._tell("add", pid)

    def remove(self, pid: int) -> None:
        """Forget ``pid``, which has ended."""
        self._tell("remove", pid)

    def stop(self) -> None:
        """Kill the registered processes and end the shell."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.communicate(timeout=10)

    def _tell(self, action: str, pid: int) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(BrokenPipeError):  # somebody killed the shell: brokers go on without it
                self._shell.stdin.write(f"{action} {pid}\n".encode())
                self._shell.stdin.flush()
