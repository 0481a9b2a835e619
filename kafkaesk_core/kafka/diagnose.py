"""Finds out why no broker could be used; aiokafka only logs the reason (K49, K50)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextvars import Context
from inspect import signature
from typing import Any, NamedTuple

import aiokafka.errors as kafka
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from kafkaesk_core.errors import AuthenticationError, BrokerError, BrokerUnreachableError

from .errors import explain

__all__ = ["diagnose"]

_ACCEPTED = frozenset(signature(create_conn).parameters) - {"host", "port", "request_timeout_ms"}


# The errors of a client whose security protocol differs from the port's.
_MISMATCH = (
    kafka.IllegalSaslStateError,
    kafka.KafkaConnectionError,
    ConnectionError,
    EOFError,
    ssl.SSLError,
)


class Finding(NamedTuple):
    """The behaviour of one server; the finding with the highest rank explains most."""

    rank: int
    reason: str
    remedy: str
    is_authentication: bool = False


async def diagnose(
    servers: Sequence[str], options: Mapping[str, Any], *, timeout: float = 3.0
) -> BrokerError:
    """Connect to each server again and return the true cause, for the caller to raise.

    The error's line has the servers, the behaviour of each, and the remedy. `options` are those of
    an aiokafka client. The diagnosis takes at most `timeout` seconds.
    """
    hosts = [f"{host}:{port}" for host, port, _ in collect_hosts(servers, randomize=False)]
    work = _findings(servers, options, timeout)
    findings = await asyncio.get_running_loop().create_task(work, context=Context())
    tried = ", ".join(f"{host} ({f.reason})" for host, f in zip(hosts, findings, strict=True))
    worst = max(findings, key=lambda finding: finding.rank)
    text = f"cannot use Kafka at {tried}; {worst.remedy}"
    if worst.is_authentication:
        return AuthenticationError(text)
    return BrokerUnreachableError(text, servers=hosts)


async def _findings(
    servers: Sequence[str], options: Mapping[str, Any], timeout: float
) -> list[Finding]:
    given = {name: value for name, value in options.items() if name in _ACCEPTED}
    hosts = collect_hosts(servers, randomize=False)
    return await asyncio.gather(*(_probe(host, port, given, timeout) for host, port, _ in hosts))


async def _probe(host: str, port: int, options: dict[str, Any], timeout: float) -> Finding:
    protocol = options.get("security_protocol", "PLAINTEXT")
    limit = max(1, int(timeout * 1000))
    connection = None
    try:
        async with asyncio.timeout(timeout):
            connection = await create_conn(host, port, request_timeout_ms=limit, **options)
            answer = await connection.send(MetadataRequest([], False))
    except Exception as error:
        return _judge(error, protocol, options.get("sasl_mechanism", "PLAIN"))
    finally:
        if connection is not None:
            connection.close()
    if not answer.brokers:
        return Finding(3, "knows of no broker", "wait until the cluster has formed")
    return Finding(0, "answers", "see the brokers' logs for why they do not serve us; try again")


def _judge(error: Exception, protocol: str, mechanism: str) -> Finding:
    found = _judge_authentication(error, mechanism) or _judge_network(error)
    if found is not None:
        return found
    if isinstance(error, _MISMATCH):
        remedy = (
            "set security_protocol to the one that it expects: PLAINTEXT, SSL, SASL_PLAINTEXT "
            "or SASL_SSL"
        )
        if "SSL" in protocol:
            remedy += ", and load a client certificate into ssl_context if it asks for one"
        return Finding(5, f"hangs up on security_protocol {protocol}", remedy)
    return Finding(1, explain(error), "see the brokers' logs")


def _judge_authentication(error: Exception, mechanism: str) -> Finding | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Finding(
            9,
            f"shows a certificate that is not trusted: {error.verify_message}",
            "load the certificate authority of the brokers into ssl_context",
            is_authentication=True,
        )
    if isinstance(error, kafka.UnsupportedSaslMechanismError):
        return Finding(
            8,
            f"does not offer the SASL mechanism {mechanism}",
            "set sasl_mechanism to one that the broker offers",
            is_authentication=True,
        )
    if isinstance(error, (kafka.SaslAuthenticationFailed, kafka.AuthenticationFailedError)):
        return Finding(
            9,
            f"refuses the credentials: {error.args[0] if error.args else 'no reason given'}",
            f"check the credentials for {mechanism}",
            is_authentication=True,
        )
    return None


def _judge_network(error: Exception) -> Finding | None:
    if isinstance(error, socket.gaierror):
        return Finding(2, "the name cannot be resolved", "check the names of the servers")
    if isinstance(error, ConnectionRefusedError):
        return Finding(2, "refuses the connection", "check that Kafka runs there, and the port")
    if isinstance(error, TimeoutError):
        return Finding(
            4, "does not answer", "check the port, the network and whether the broker is well"
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return Finding(
            6, "does not speak TLS", "set security_protocol to PLAINTEXT or SASL_PLAINTEXT"
        )
    if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, ConnectionError)):
        return Finding(2, error.strerror or repr(error), "check the servers and the network")
    return None
