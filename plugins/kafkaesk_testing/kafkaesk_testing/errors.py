"""The exceptions of this package.

KafkaTestingError
├── KafkaUnavailableError   no Kafka can be had here; the message says why and how to have one
└── KafkaBrokerError         a broker was found, but did not start, stop or answer in time
"""


class KafkaTestingError(Exception):
    """The base class of this package's errors."""


class KafkaUnavailableError(KafkaTestingError):
    """No Kafka is available on this machine."""


class KafkaBrokerError(KafkaTestingError):
    """A broker did not start, stop or become ready within its limit."""
