"""The C functions of librdkafka's mock cluster, from the library in confluent-kafka.

https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h describes them. They may
be called from any thread. ctypes releases the interpreter's lock in each call, and the mock answers
its clients in its own thread, so an event loop in this process is not blocked.
"""

import ctypes
import ctypes.util
import importlib.util
from ctypes import POINTER, c_char_p, c_int, c_int16, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from .errors import KafkaTestingError

_PRODUCER = 0
_ERROR_TEXT_BYTES = 512
# Result and arguments; further arguments are variadic.
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "conf_new": (c_void_p, []),
    "conf_set_log_cb": (None, [c_void_p, c_void_p]),
    "new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "destroy": (None, [c_void_p]),
    "err2str": (c_char_p, [c_int]),
    "mock_cluster_new": (c_void_p, [c_void_p, c_int]),
    "mock_cluster_destroy": (None, [c_void_p]),
    "mock_cluster_bootstraps": (c_char_p, [c_void_p]),
    "mock_group_initial_rebalance_delay_ms": (None, [c_void_p, c_int32]),
    "mock_push_request_errors_array": (None, [c_void_p, c_int16, c_size_t, POINTER(c_int)]),
    "mock_clear_request_errors": (None, [c_void_p, c_int16]),
    "mock_broker_push_request_error_rtts": (c_int, [c_void_p, c_int32, c_int16, c_size_t]),
    "mock_broker_set_down": (c_int, [c_void_p, c_int32]),
    "mock_broker_set_up": (c_int, [c_void_p, c_int32]),
    "mock_broker_set_rtt": (c_int, [c_void_p, c_int32, c_int]),
    "mock_coordinator_set": (c_int, [c_void_p, c_char_p, c_char_p, c_int32]),
    "mock_topic_create": (c_int, [c_void_p, c_char_p, c_int, c_int]),
    "mock_topic_delete": (c_int, [c_void_p, c_char_p]),
    "mock_topic_set_error": (None, [c_void_p, c_char_p, c_int]),
    "mock_partition_set_leader": (c_int, [c_void_p, c_char_p, c_int32, c_int32]),
    "mock_partition_delete_records": (c_int, [c_void_p, c_char_p, c_int32, c_int64]),
    "mock_start_request_tracking": (None, [c_void_p]),
    "mock_get_requests": (POINTER(c_void_p), [c_void_p, POINTER(c_size_t)]),
    "mock_clear_requests": (None, [c_void_p]),
    "mock_request_id": (c_int32, [c_void_p]),
    "mock_request_api_key": (c_int16, [c_void_p]),
    "mock_request_destroy_array": (None, [POINTER(c_void_p), c_size_t]),
}


class Librdkafka:
    """The loaded library; names of C functions are given without the prefix ``rd_kafka_``.

    Raises:
        KafkaTestingError: the library cannot be found or loaded.
    """

    def __init__(self) -> None:
        path = _find_library()
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise KafkaTestingError(f"cannot load librdkafka from {path}: {error}") from error

    # Any: each function has its own arguments and result, which only the table above knows.
    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function that does not return an error code.

        Raises:
            KafkaTestingError: this librdkafka is too old for the function.
        """
        function = getattr(self._library, f"rd_kafka_{name}", None)
        if function is None:
            text = f"librdkafka has no {name}; install a newer confluent-kafka"
            raise KafkaTestingError(text)
        function.restype, function.argtypes = _SIGNATURES[name]
        return function(*arguments)

    def check(self, name: str, *arguments: Any) -> None:
        """Call a function that returns an error code.

        Raises:
            KafkaTestingError: the code is not 0.
        """
        code = self.call(name, *arguments)
        if code:
            meaning = self.call("err2str", code).decode()
            raise KafkaTestingError(f"{name}{arguments[1:]} failed: {meaning} ({code})")

    def new_handle(self) -> int:
        """Return the handle of a silent producer, which a mock cluster needs.

        Raises:
            KafkaTestingError: librdkafka refused to create it.
        """
        configuration = self.call("conf_new")
        self.call("conf_set_log_cb", configuration, None)
        text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
        handle = self.call("new", _PRODUCER, configuration, text, _ERROR_TEXT_BYTES)
        if not handle:
            raise KafkaTestingError(f"cannot start librdkafka: {text.value.decode()}")
        return int(handle)


def _find_library() -> str:
    """Find the library; wheels have it in ``confluent_kafka.libs``, on macOS in ``.dylibs``."""
    package = importlib.util.find_spec("confluent_kafka")
    if package is None or package.origin is None:
        raise KafkaTestingError("the embedded broker needs confluent-kafka; pip install it")
    folder = Path(package.origin).parent
    for libraries in (folder.parent / "confluent_kafka.libs", folder / ".dylibs"):
        found = sorted(libraries.glob("librdkafka*"))
        if found:
            return str(found[0])
    installed = ctypes.util.find_library("rdkafka")
    if installed is None:
        raise KafkaTestingError("found no librdkafka beside confluent_kafka, nor on the system")
    return installed
