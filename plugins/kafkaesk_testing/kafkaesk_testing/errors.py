"""The exceptions of this package.

KafkaTestingError
├── KafkaUnavailableError   no Kafka can be had here; the message says why and how to have one
└── KafkaBrokerError         a broker was found, but did not start, stop or answer in time
"""


class KafkaTestingError(Exception):
    """Root of what this package raises."""


class KafkaUnavailableError(KafkaTestingError):
    """No Kafka can be had on this machine."""


class KafkaBrokerError(KafkaTestingError):
    """A broker did not start, stop or become ready within its limit."""
