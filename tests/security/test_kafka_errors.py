"""The table of foreign errors, what a failed batch means, and why no broker could be used."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiokafka.errors as kafka
import pytest

from kafkaesk_core.errors import (
    AuthenticationError,
    AuthorizationError,
    BrokerError,
    BrokerUnreachableError,
    CommitError,
    KafkaeskError,
    MessageTooLargeError,
    TopicError,
)
from kafkaesk_core.kafka.diagnose import diagnose
from kafkaesk_core.kafka.errors import (
    TABLE,
    ProduceErrorKind,
    classify_produce_error,
    explain,
    is_retryable,
    is_too_large,
    known_errors,
    translate,
)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PASSWORD = "hunter2-secret"
SASL: dict[str, Any] = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_plain_username": "alice",
    "sasl_plain_password": PASSWORD,
}


def test_every_error_of_aiokafka_is_in_the_table() -> None:
    missing = [error.__name__ for error in known_errors() if error not in TABLE]

    assert missing == []
    assert len(TABLE) == len(set(known_errors()))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka.KafkaConnectionError("cut"), BrokerUnreachableError),
        (kafka.NotControllerError(), BrokerUnreachableError),
        (ConnectionRefusedError("no"), BrokerUnreachableError),
        (TimeoutError(), BrokerUnreachableError),
        (kafka.SaslAuthenticationFailed("who?"), AuthenticationError),
        (kafka.TopicAuthorizationFailedError("orders"), AuthorizationError),
        (kafka.InvalidReplicationFactorError("3 > 1"), TopicError),
        (kafka.IllegalGenerationError(), CommitError),
        (kafka.MessageSizeTooLargeError(), MessageTooLargeError),
        (kafka.UnsupportedVersionError(), BrokerError),
        (RuntimeError("what?"), BrokerError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_a_foreign_error_becomes_ours(error: Exception, kind: type[KafkaeskError]) -> None:
    ours = translate(error, "doing it", topic="orders", servers=["a:1"])

    assert type(ours) is kind
    assert str(ours).startswith(f"doing it failed: {type(error).__name__}")


def test_a_translated_error_carries_its_subject() -> None:
    topic = translate(kafka.PolicyViolationError("too many"), "creating", topic="orders")
    broker = translate(kafka.NodeNotReadyError(), "asking", servers=["a:1", "b:2"])
    large = translate(kafka.MessageSizeTooLargeError(), "publishing", topic="orders")

    assert isinstance(topic, TopicError)
    assert (topic.topic, topic.code) == ("orders", 44)
    assert isinstance(broker, BrokerUnreachableError)
    assert broker.servers == ("a:1", "b:2")
    assert isinstance(large, MessageTooLargeError)
    assert large.topic == "orders"


def test_a_topics_error_without_its_topic_is_a_brokers_error() -> None:
    assert type(translate(kafka.InvalidTopicError(), "asking")) is BrokerError


def test_an_error_is_explained_in_one_line() -> None:
    assert explain(kafka.PolicyViolationError("no more")) == (
        "PolicyViolationError (Kafka's code 44): no more"
    )
    assert explain(kafka.KafkaConnectionError(object())) == "KafkaConnectionError"
    assert explain(ValueError("x")) == "ValueError: x"


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (kafka.NotLeaderForPartitionError(), True),
        (kafka.UnknownTopicOrPartitionError(), True),
        (kafka.KafkaTimeoutError(), True),
        (kafka.TopicAuthorizationFailedError(), False),
        (kafka.ProducerClosed(), False),
        (BrokerUnreachableError("down"), True),
        (TopicError("no", topic="orders"), False),
        (TimeoutError(), True),
        (ValueError(), False),
    ],
    ids=repr,
)
def test_only_what_may_succeed_later_is_retryable(error: Exception, retryable: bool) -> None:
    assert is_retryable(error) is retryable


@pytest.mark.parametrize(
    ("error", "first", "later"),
    [
        (kafka.MessageSizeTooLargeError(), ProduceErrorKind.CULPRIT, ProduceErrorKind.CULPRIT),
        (kafka.InvalidTimestampError(), ProduceErrorKind.CULPRIT, ProduceErrorKind.UNKNOWN),
        (kafka.TopicAuthorizationFailedError(), ProduceErrorKind.REFUSED, ProduceErrorKind.UNKNOWN),
        (kafka.LeaderNotAvailableError(), ProduceErrorKind.AGAIN, ProduceErrorKind.UNKNOWN),
        (kafka.OutOfOrderSequenceNumber(), ProduceErrorKind.RENEW, ProduceErrorKind.UNKNOWN),
        (kafka.UnknownError(), ProduceErrorKind.UNKNOWN, ProduceErrorKind.UNKNOWN),
        (kafka.KafkaConnectionError(), ProduceErrorKind.UNKNOWN, ProduceErrorKind.UNKNOWN),
    ],
    ids=repr,
)
def test_not_written_is_certain_for_a_first_attempt_only(
    error: Exception, first: ProduceErrorKind, later: ProduceErrorKind
) -> None:
    assert classify_produce_error(error, 1) is first
    assert classify_produce_error(error, 2) is later
    assert classify_produce_error(error, 0) is ProduceErrorKind.AGAIN


def test_too_large_is_told_from_other_culprits() -> None:
    assert is_too_large(kafka.MessageSizeTooLargeError())
    assert not is_too_large(kafka.InvalidTimestampError())


# --- why no broker could be used: small servers that do what brokers were seen to do


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(4)


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


def speaking(answers: dict[int, bytes]) -> Handler:
    """Answer requests of Kafka's protocol by their API key; hang up at any other."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            request = await reader.readexactly(size)
            key, _, correlation = struct.unpack_from(">hhi", request)
            if key not in answers:
                return
            body = struct.pack(">i", correlation) + answers[key]
            writer.write(struct.pack(">i", len(body)) + body)

    return handle


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


METADATA, HANDSHAKE, VERSIONS, AUTHENTICATE = 3, 17, 18, 36
API_VERSIONS = struct.pack(">hi", 0, 3) + b"".join(
    struct.pack(">hhh", *api) for api in [(METADATA, 0, 0), (HANDSHAKE, 1, 1), (AUTHENTICATE, 0, 0)]
)
OFFERED = struct.pack(">hi", 0, 1) + text("PLAIN")
NOT_OFFERED = struct.pack(">hi", 33, 1) + text("SCRAM-SHA-512")
REFUSED = struct.pack(">h", 58) + text("Invalid credentials") + struct.pack(">i", 0)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=broker", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_servers_where_nothing_listens_are_named_with_the_reason_of_each() -> None:
    closed = f"127.0.0.1:{a_free_port()}"

    error = await diagnose([closed, "nowhere.invalid:9092"], {})

    assert isinstance(error, BrokerUnreachableError)
    assert error.servers == (closed, "nowhere.invalid:9092")
    assert f"{closed} (refuses the connection)" in str(error)
    assert "nowhere.invalid:9092 (the name cannot be resolved)" in str(error)
    assert str(error).endswith("check that Kafka runs there, and the port")


async def test_a_server_that_does_not_answer_is_told_within_the_limit() -> None:
    async with serving(say_nothing) as server:
        started = asyncio.get_running_loop().time()
        error = await diagnose([server], {}, timeout=0.3)
        took = asyncio.get_running_loop().time() - started

    assert isinstance(error, BrokerUnreachableError)
    assert "does not answer" in str(error)
    assert took < 2


async def test_a_plain_client_on_a_port_that_expects_something_else_is_told() -> None:
    async with serving(hang_up) as server:
        error = await diagnose([server], {})

    assert isinstance(error, BrokerUnreachableError)
    assert "hangs up on security_protocol PLAINTEXT" in str(error)
    assert "set security_protocol" in str(error)


async def test_a_plain_client_on_a_sasl_port_is_told_though_it_may_ask_for_versions() -> None:
    async with serving(speaking({VERSIONS: API_VERSIONS})) as server:
        error = await diagnose([server], {})

    assert "hangs up on security_protocol PLAINTEXT" in str(error)


async def test_a_refused_password_is_an_authentication_error_that_does_not_name_it() -> None:
    answers = {VERSIONS: API_VERSIONS, HANDSHAKE: OFFERED, AUTHENTICATE: REFUSED}
    async with serving(speaking(answers)) as server:
        error = await diagnose([server], SASL)

    assert isinstance(error, AuthenticationError)
    assert "refuses the credentials: Invalid credentials" in str(error)
    assert "check the credentials for PLAIN" in str(error)
    assert PASSWORD not in str(error)


async def test_a_mechanism_that_is_not_offered_is_an_authentication_error() -> None:
    answers = {VERSIONS: API_VERSIONS, HANDSHAKE: NOT_OFFERED}
    async with serving(speaking(answers)) as server:
        error = await diagnose([server], SASL)

    assert isinstance(error, AuthenticationError)
    assert "does not offer the SASL mechanism PLAIN" in str(error)


async def test_a_certificate_that_is_not_trusted_is_an_authentication_error(
    certificate: tuple[Path, Path],
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    options = {"security_protocol": "SSL", "ssl_context": ssl.create_default_context()}

    async with serving(say_nothing, context) as server:
        error = await diagnose([server], options)

    assert isinstance(error, AuthenticationError)
    assert "shows a certificate that is not trusted" in str(error)
    assert "load the certificate authority" in str(error)


async def test_a_tls_client_on_a_plain_port_is_told() -> None:
    options = {"security_protocol": "SSL", "ssl_context": ssl.create_default_context()}

    async with serving(hang_up) as server:
        error = await diagnose([server], options)

    assert isinstance(error, BrokerUnreachableError)
    assert "hangs up on security_protocol SSL" in str(error)
    assert "load a client certificate" in str(error)


async def test_a_port_that_answers_in_clear_to_a_tls_client_is_told() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 this is not Kafka\r\n")
        await writer.drain()

    options = {"security_protocol": "SSL", "ssl_context": ssl.create_default_context()}

    async with serving(greet) as server:
        error = await diagnose([server], options)

    assert "does not speak TLS" in str(error)


async def test_a_cluster_without_brokers_is_told() -> None:
    nobody = struct.pack(">ii", 0, 0)
    async with serving(speaking({VERSIONS: API_VERSIONS, METADATA: nobody})) as server:
        error = await diagnose([server], {})

    assert "knows of no broker" in str(error)


async def test_the_most_telling_server_decides_on_the_remedy() -> None:
    answers = {VERSIONS: API_VERSIONS, HANDSHAKE: OFFERED, AUTHENTICATE: REFUSED}
    async with serving(speaking(answers)) as server:
        error = await diagnose([f"127.0.0.1:{a_free_port()}", server], SASL)

    assert isinstance(error, AuthenticationError)
    assert "refuses the connection" in str(error)
    assert "refuses the credentials" in str(error)
