"""The tasks of measuring processes, and their results, each as a line of JSON."""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Meter", "Result", "Task", "answer"]

# Any below: options and details are what a job and its case agree on; JSON on the way.


@dataclass(frozen=True)
class Task:
    """One measurement: `count` messages after `warm_up` others, on an existing topic."""

    job: str
    servers: str
    topic: str
    count: int
    warm_up: int
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the line that `answer` reads."""
        return json.dumps(asdict(self))

    def option(self, name: str, default: Any) -> Any:
        """Return an option of the job."""
        return self.options.get(name, default)

    def key(self, number: int) -> bytes | None:
        """Return the key of a message: one of a hundred keys, or None."""
        return b"customer-%d" % (number % 100) if self.option("keyed", False) else None


@dataclass
class Result:
    """The wall-clock and processor seconds (all threads) for `count` messages."""

    count: int
    seconds: float
    cpu: float
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: str) -> "Result":
        """Read the line that `answer` writes."""
        return cls(**json.loads(line))


def answer(measure: Callable[[Task], Result]) -> None:
    """Read tasks as lines from standard input; answer each with a line.

    The output of a measurement goes to standard error.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        result = measure(Task(**json.loads(line)))
        answers.write(json.dumps(asdict(result)) + "\n")
        answers.flush()


class Meter:
    """Measures from the end of the warm-up to the last message."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.seen = 0
        self.result: Result | None = None
        self._start = (0.0, 0.0)

    def start(self) -> None:
        """Begin, after collecting the garbage of the warm-up."""
        gc.collect()
        self._start = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """End."""
        seconds, cpu = time.perf_counter(), time.process_time()
        self.result = Result(self.task.count, seconds - self._start[0], cpu - self._start[1])

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the block."""
        self.start()
        yield
        self.stop()

    def saw(self, messages: int = 1) -> bool:
        """Count consumed messages; return whether all have arrived."""
        before, self.seen = self.seen, self.seen + messages
        if before < self.task.warm_up <= self.seen:
            self.start()
        elif self.seen >= self.task.warm_up + self.task.count and self.result is None:
            self.stop()
            return True
        return self.result is not None

    def final(self) -> Result:
        """Return the result.

        Raises:
            RuntimeError: there is no result, because the messages did not arrive.
        """
        if self.result is None:
            raise RuntimeError(f"{self.task} was not finished: {self.seen} messages were seen")
        return self.result
