"""Security settings reach the clients, and what is wrong with them is told in one line (S11).

One broker with a listener per protocol and mechanism; K49 to K51.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import signal
import ssl
import subprocess
import sys
import threading
import time
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import confluent_kafka.admin
import pytest
from aiokafka.abc import AbstractTokenProvider

from kafkaesk_core import (
    Application,
    AuthenticationError,
    AuthorizationError,
    BrokerUnreachableError,
    Cluster,
    ConfigurationError,
)
from kafkaesk_core.asgi import lifespan
from kafkaesk_core.errors import BrokerError, DeliveryFailedError
from kafkaesk_ops import OpsPlugin, OpsSettings
from kafkaesk_retry import RetryPlugin, RetrySettings
from kafkaesk_testing import KafkaCluster, Listener, eventually
from kafkaesk_testing.properties import free_ports
from tests.plugins.ops.test_ops import port_of, request
from tests.programs import Program

ROOT = Path(__file__).parents[2]
PASSWORD = "alices-secret"
MODULE = "org.apache.kafka.common.security"
OAUTH = f"{MODULE}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, a server's certificate of it, and another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        openssl(
            folder,
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"),
        )
    openssl(
        folder,
        *("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key"),
        *("-out", "server.csr", "-subj", "/CN=server"),
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    openssl(
        folder,
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.crt"),
    )
    openssl(
        folder,
        *("req", "-newkey", "rsa:2048", "-passout", f"pass:{PASSWORD}", "-keyout", "client.key"),
        *("-out", "client.csr", "-subj", "/CN=client"),
    )
    openssl(
        folder,
        *("x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-days", "2", "-out", "client.crt"),
    )
    key, certificate = (folder / "server.key").read_text(), (folder / "server.crt").read_text()
    (folder / "server.pem").write_text(key + certificate)
    return folder


@pytest.fixture(scope="module")
def secured(kafka_jars: Path, certificates: Path) -> Iterator[KafkaCluster]:
    plain = f'{MODULE}.plain.PlainLoginModule required user_alice="{PASSWORD}" user_bob="bob-pw";'
    scram = f"{MODULE}.scram.ScramLoginModule required;"
    oauth = (
        f"{MODULE}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";'
    )
    tls = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "ssl.client.auth": "none",
    }
    properties = {
        "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.plain.plain.sasl.jaas.config": plain,
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.scram.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.scram.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.oauth.oauthbearer.sasl.jaas.config": oauth,
        "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class": OAUTH,
        **{f"listener.name.tls.{name}": value for name, value in tls.items()},
        **{f"listener.name.both.{name}": value for name, value in tls.items()},
        **{f"listener.name.mutual.{name}": value for name, value in tls.items()},
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.both.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.both.scram-sha-512.sasl.jaas.config": scram,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:alice;User:CN=client",
    }
    listeners = [
        Listener("PLAIN", "SASL_PLAINTEXT"),
        Listener("SCRAM", "SASL_PLAINTEXT"),
        Listener("OAUTH", "SASL_PLAINTEXT"),
        Listener("TLS", "SSL"),
        Listener("BOTH", "SASL_SSL"),
        Listener("MUTUAL", "SSL"),
    ]
    with KafkaCluster(
        properties=properties, listeners=listeners, scram_users={"alice": PASSWORD}
    ) as cluster:
        yield cluster


class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """Unsecured tokens, as the broker's test validator takes them."""

    async def token(self) -> str:
        now = int(time.time())
        claims = {"sub": "alice", "iat": now, "exp": now + 3600}
        parts = ({"alg": "none"}, claims)
        encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
        return ".".join(part.decode().rstrip("=") for part in encoded) + "."


def credentials(mechanism: str, password: str = PASSWORD, user: str = "alice") -> dict[str, Any]:
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": user,
        "sasl_plain_password": password,
    }


def client_files(folder: Path) -> dict[str, Any]:
    """The client's certificate and key, as the environment would name them."""
    return {
        "security_protocol": "SSL",
        "ssl_cafile": str(folder / "ca.pem"),
        "ssl_certfile": str(folder / "client.crt"),
        "ssl_keyfile": str(folder / "client.key"),
        "ssl_password": PASSWORD,
    }


def trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def application(
    cluster: KafkaCluster, listener: str, kafka_settings: dict[str, Any]
) -> Application:
    return Application(
        cluster.servers_of(listener) if listener else cluster.servers,
        f"{uuid.uuid4().hex[:8]}.",
        {"heartbeat_interval_ms": 300, **kafka_settings},
        entry_points=False,
        start_timeout=4.0,
        partitions=1,
    )


Settings = Callable[[Path], dict[str, Any]]


@pytest.mark.s11
@pytest.mark.parametrize(
    ("listener", "settings"),
    [
        ("PLAIN", lambda _: credentials("PLAIN")),
        ("SCRAM", lambda _: credentials("SCRAM-SHA-256")),
        ("SCRAM", lambda _: credentials("SCRAM-SHA-512")),
        (
            "OAUTH",
            lambda _: {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "OAUTHBEARER",
                "sasl_oauth_token_provider": Tokens(),
            },
        ),
        (
            "TLS",
            lambda folder: {"security_protocol": "SSL", "ssl_context": trusting(folder / "ca.pem")},
        ),
        (
            "BOTH",
            lambda folder: {
                **credentials("SCRAM-SHA-512"),
                "security_protocol": "SASL_SSL",
                "ssl_cafile": str(folder / "ca.pem"),
            },
        ),
        ("MUTUAL", lambda folder: client_files(folder)),
    ],
    ids=["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "SSL", "SASL_SSL", "files"],
)
async def test_a_secured_broker_is_published_to_and_consumed_from(
    secured: KafkaCluster, certificates: Path, listener: str, settings: Settings
) -> None:
    app = application(secured, listener, settings(certificates))
    got: list[bytes] = []

    @app.subscribe("secured", f"group-{uuid.uuid4().hex[:8]}")
    async def handle(data: bytes) -> None:
        got.append(data)

    async with app:
        await (await app.raw_publish("secured", b"secret"))
        await app.consume_for(1, seconds=20)
    async with Cluster(app.settings) as cluster, cluster.reader() as reader:
        ends = await cluster.ends([f"{app.settings.topic_prefix}secured"])
        read = [record.value async for batch in reader.records(ends) for record in batch]

    assert got == [b"secret"]
    assert b"secret" in read


def test_the_example_of_tls_and_sasl_runs_on_a_secured_broker(
    secured: KafkaCluster, certificates: Path, tmp_path: Path
) -> None:
    environment = {
        "KAFKA_USER": "alice",
        "KAFKA_PASSWORD": PASSWORD,
        "KAFKA_CA": str(certificates / "ca.pem"),
        "KAFKAESK_TOPIC_PREFIX": f"{uuid.uuid4().hex[:8]}.",
        "KAFKAESK_PLUGINS": "",
    }
    servers = ",".join(secured.servers_of("BOTH"))

    with Program(
        *(sys.executable, "-m", "kafkaesk_core", "examples.secure:app"),
        *("--kafka-servers", servers),
        folder=ROOT,
        output=tmp_path / "output",
        environment=environment,
    ) as service:
        service.wait_for("order 1 came over an encrypted connection")

        assert service.end(signal.SIGTERM) == 0
        assert PASSWORD not in service.printed


@asynccontextmanager
async def relay(port: int, server: str) -> AsyncIterator[None]:
    """A way to a broker that was not there before."""
    host, _, number = server.rpartition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(host, int(number))
        await asyncio.gather(pass_on(reader, broker_writer), pass_on(broker_reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", port):
        yield


async def output_of(*arguments: str) -> str:
    """What a command prints that succeeds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kafkaesk_core", *arguments), stdout=PIPE, stderr=PIPE
    )
    printed, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    assert PASSWORD not in f"{printed!r}{errors!r}"
    return printed.decode()


async def test_a_service_in_a_web_server_and_the_commands_run_over_tls_and_sasl(
    secured: KafkaCluster, certificates: Path
) -> None:
    """Its probes answer while its start waits for a broker, and its handler runs in a thread."""
    (port,), (server,) = free_ports(1), secured.servers_of("BOTH")
    settings = {
        **credentials("SCRAM-SHA-512"),
        "security_protocol": "SASL_SSL",
        "ssl_cafile": str(certificates / "ca.pem"),
    }
    app = application(secured, "BOTH", settings)
    app.configure(
        kafka_servers=[f"127.0.0.1:{port}"], start_timeout=60.0, auto_commit_interval_ms=100
    )
    ops = OpsPlugin(OpsSettings(port=0))
    app.plugins.register(ops)
    prefix = app.settings.topic_prefix
    handled: list[tuple[bytes, bool]] = []
    is_started, is_over = asyncio.Event(), asyncio.Event()

    @app.subscribe("orders", f"{prefix}billing")
    def bill(order: bytes) -> None:
        handled.append((order, threading.current_thread() is threading.main_thread()))

    async def serve() -> None:
        async with lifespan(app)(object()):
            is_started.set()
            await is_over.wait()

    async def ask(path: str) -> tuple[int, str]:
        return await request(port_of(ops), path)

    def committed() -> list[int | None]:
        return [one.committed for group in app.status().groups for one in group.partitions]

    serving = asyncio.create_task(serve())
    await eventually(lambda: ops.port is not None and str(port) in str(app.health().reasons))
    waiting = [(await ask(path))[0] for path in ("/live", "/ready", "/started")]
    _, reasons = await ask("/ready")
    async with relay(port, server):
        await asyncio.wait_for(is_started.wait(), 60)
        await (await app.raw_publish("orders", b"secret"))
        await eventually(lambda: committed() == [1], within=30)
        ready, _ = await ask("/ready")
        where = ("--kafka-servers", server, "--kafka-settings", json.dumps(settings))
        lag, tail, status = await asyncio.gather(
            output_of("lag", "--group", f"{prefix}billing", "--json", *where),
            output_of("tail", "orders", "--json", "--topic-prefix", prefix, *where),
            output_of("status", str(port_of(ops)), "--json"),
        )
        is_over.set()
        await serving

    assert (waiting, ready) == ([200, 503, 503], 200)
    assert PASSWORD not in reasons
    assert handled == [(b"secret", False)]
    (group,) = json.loads(lag)["groups"]
    places = [(one["topic"], one["committed"], one["lag"]) for one in group["partitions"]]
    assert (group["members"], places) == (1, [(f"{prefix}orders", 1, 0)])
    assert (json.loads(tail)["topic"], json.loads(tail)["value"]) == (f"{prefix}orders", "secret")
    assert json.loads(status)["health"]["ready"] is True


@pytest.mark.f41
@pytest.mark.k49
@pytest.mark.parametrize(
    ("listener", "settings", "error", "told"),
    [
        ("PLAIN", lambda _: credentials("PLAIN", "wrong-pw"), AuthenticationError, "credentials"),
        (
            "SCRAM",
            lambda _: credentials("SCRAM-SHA-512", "wrong-pw"),
            AuthenticationError,
            "credentials",
        ),
        (
            "PLAIN",
            lambda _: credentials("PLAIN", user="nobody"),
            AuthenticationError,
            "credentials",
        ),
        (
            "PLAIN",
            lambda _: credentials("SCRAM-SHA-256"),
            AuthenticationError,
            "does not offer the SASL mechanism SCRAM-SHA-256",
        ),
        (
            "TLS",
            lambda folder: {
                "security_protocol": "SSL",
                "ssl_cafile": str(folder / "other.pem"),
            },
            AuthenticationError,
            "certificate authority",
        ),
        (
            "TLS",
            lambda _: {"security_protocol": "SSL"},
            AuthenticationError,
            "certificate authority",
        ),
        ("TLS", lambda _: {}, BrokerUnreachableError, "security_protocol PLAINTEXT"),
        ("PLAIN", lambda _: {}, BrokerUnreachableError, "security_protocol PLAINTEXT"),
        (
            "",
            lambda folder: {"security_protocol": "SSL", "ssl_context": trusting(folder / "ca.pem")},
            BrokerUnreachableError,
            "security_protocol",
        ),
    ],
    ids=[
        "wrong password",
        "wrong password, SCRAM",
        "unknown user",
        "unsupported mechanism",
        "wrong CA",
        "the system's CAs",
        "plain client, TLS port",
        "plain client, SASL port",
        "TLS client, plain port",
    ],
)
async def test_what_is_wrong_is_told_in_one_line_and_never_the_password(
    secured: KafkaCluster,
    certificates: Path,
    caplog: pytest.LogCaptureFixture,
    listener: str,
    settings: Settings,
    error: type[BrokerError],
    told: str,
) -> None:
    """Who is refused is told at once; a port that hangs up may be a broker that starts."""
    app = application(secured, listener, settings(certificates))
    is_refusal = error is AuthenticationError
    app.configure(start_timeout=4.0 if is_refusal else 1.0)
    caplog.set_level(logging.DEBUG, "kafkaesk")
    started = time.monotonic()

    with pytest.raises(error, match=told) as raised:
        await app.initialize()

    text = str(raised.value)
    assert "\n" not in text
    assert (secured.servers_of(listener) if listener else secured.servers)[0] in text
    for secret in (PASSWORD, "wrong-pw"):
        assert secret not in text + caplog.text
    assert time.monotonic() - started < (3.0 if is_refusal else 6.0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ssl_cafile": "{folder}/none.pem"}, "ssl_cafile='.*none.pem' cannot be read: No such"),
        ({"ssl_cafile": "{folder}"}, "ssl_cafile='.*' cannot be read: Is a directory"),
        ({"ssl_cafile": "{folder}/names"}, "ssl_cafile='.*names' cannot be used: .*authorities"),
        ({"ssl_keyfile": "{folder}/ca.key"}, "ssl_keyfile='.*' cannot be used: .*belong to ssl_ce"),
        ({"ssl_password": "wrong-pw"}, "ssl_keyfile='.*' cannot be used: .*open with ssl_password"),
        ({"ssl_password": None}, "ssl_keyfile='.*' cannot be used: .*open with ssl_password"),
        ({"ssl_certfile": None}, "ssl_keyfile is set without ssl_certfile"),
        ({"security_protocol": "PLAINTEXT"}, "ssl_cafile is set but security_protocol is PLAIN"),
        ({"ssl_context": ssl.create_default_context()}, "ssl_context and ssl_cafile are both set"),
        (
            {"ssl_check_hostname": "no"},
            r"kafka_settings\['ssl_check_hostname'\] is 'no' of type str",
        ),
        ({"ssl_password": 5}, r"kafka_settings\['ssl_password'\] is \*\*\* of type int"),
    ],
)
def test_files_of_tls_that_cannot_be_used_are_named(
    changed: dict[str, Any], told: str, certificates: Path
) -> None:
    given = {**client_files(certificates), **changed}
    filled = {
        name: value.format(folder=certificates) if isinstance(value, str) else value
        for name, value in given.items()
    }

    with pytest.raises(ConfigurationError, match=told) as raised:
        Application("localhost:1", kafka_settings=filled, entry_points=False).settings.check()

    assert PASSWORD not in str(raised.value)
    assert "wrong-pw" not in str(raised.value)


def test_files_of_tls_come_from_the_environment_and_the_password_is_not_shown(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**client_files(certificates), "ssl_check_hostname": False}
    monkeypatch.setenv("KAFKAESK_KAFKA_SETTINGS", json.dumps(files))

    settings = Application("localhost:1", entry_points=False).settings
    settings.check()

    for options in (settings.client.for_producer(), settings.client.for_admin()):
        context = options["ssl_context"]
        assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_REQUIRED)
        assert not [name for name in options if name.startswith("ssl_") and name != "ssl_context"]
    assert PASSWORD not in repr(settings.client) + repr(settings)


@pytest.mark.f41
@pytest.mark.k51
async def test_a_group_that_may_not_be_read_stops_the_start(secured: KafkaCluster) -> None:
    app = application(secured, "PLAIN", credentials("PLAIN", "bob-pw", "bob"))

    @app.subscribe("forbidden", "a-group-of-others")
    async def handle(data: bytes) -> None: ...

    async with app:
        with pytest.raises(AuthorizationError, match="a-group-of-others") as raised:
            await app.consume_for(1, seconds=20)

    assert raised.value.exit_code == 3


@pytest.mark.f41
@pytest.mark.k51
async def test_who_may_not_write_is_told_what_to_grant(secured: KafkaCluster) -> None:
    app = application(secured, "PLAIN", credentials("PLAIN", "bob-pw", "bob"))

    async with app:
        with pytest.raises(AuthorizationError, match="grant Write"):
            await app.raw_publish("forbidden", b"anything")


@pytest.mark.k51
async def test_who_only_consumes_needs_no_right_to_write(secured: KafkaCluster) -> None:
    app = application(secured, "PLAIN", credentials("PLAIN", "bob-pw", "bob"))

    async with app:
        assert app.health().reasons == ()


class Rights:
    """Gives bob rights to what begins with `prefix`, and takes them away."""

    def __init__(self, cluster: KafkaCluster, prefix: str) -> None:
        self._kafka: Any = confluent_kafka.admin  # says to type checkers that it exports little
        self._admin = self._kafka.AdminClient({"bootstrap.servers": cluster.servers[0]})
        self._prefix = prefix

    def give(self, kind: str, operation: str) -> None:
        self._await(self._admin.create_acls([self._right(self._kafka.AclBinding, kind, operation)]))
        self._wait_until_known(kind, operation, 1)

    def take(self, kind: str, operation: str) -> None:
        right = self._right(self._kafka.AclBindingFilter, kind, operation)
        (taken,) = self._await(self._admin.delete_acls([right]))
        assert len(taken) == 1
        self._wait_until_known(kind, operation, 0)

    def _wait_until_known(self, kind: str, operation: str, count: int) -> None:
        """The controller answers before the broker, which decides, has heard of the change."""
        right = self._right(self._kafka.AclBindingFilter, kind, operation)
        deadline = time.monotonic() + 10
        while len(self._admin.describe_acls(right).result(10)) != count:
            assert time.monotonic() < deadline, "the broker does not know the rights"
            time.sleep(0.01)

    def _right(self, form: Any, kind: str, operation: str) -> Any:
        kafka = self._kafka
        return form(
            *(kafka.ResourceType[kind], self._prefix, kafka.ResourcePatternType.PREFIXED),
            *("User:bob", "*"),
            *(kafka.AclOperation[operation], kafka.AclPermissionType.ALLOW),
        )

    @staticmethod
    def _await(changes: dict[Any, Any]) -> list[Any]:
        return [change.result(10) for change in changes.values()]


@pytest.mark.f50
@pytest.mark.rule_33
@pytest.mark.k53
async def test_a_group_that_may_be_read_again_is_read_again(secured: KafkaCluster) -> None:
    """The client never asks again by itself; health says why meanwhile.

    Who may not read the group may not leave it either: its session has to end.
    """
    alice = application(secured, "PLAIN", credentials("PLAIN"))
    prefix = alice.settings.topic_prefix
    settings = {**credentials("PLAIN", "bob-pw", "bob"), "session_timeout_ms": 2000}
    bob = application(secured, "PLAIN", settings)
    bob.configure(topic_prefix=prefix)
    got: list[bytes] = []

    @bob.subscribe("orders", f"{prefix}readers")
    async def handle(data: bytes) -> None:
        got.append(data)

    rights = Rights(secured, prefix)
    rights.give("TOPIC", "READ")
    rights.give("GROUP", "READ")
    async with alice, bob:
        await (await alice.raw_publish("orders", b"before"))
        consuming = asyncio.create_task(bob.consume_forever())
        await eventually(lambda: got == [b"before"])
        rights.take("GROUP", "READ")
        await eventually(lambda: not bob.health().is_ready)
        told = bob.health().reasons
        rights.give("GROUP", "READ")
        await (await alice.raw_publish("orders", b"meanwhile"))
        await eventually(lambda: got[-1] == b"meanwhile", within=20)
        await eventually(lambda: bob.health().is_ready and not bob.health().reasons)
        await bob.stop()
        await consuming

    assert "GroupAuthorizationFailed" in str(told)
    assert set(got) == {b"before", b"meanwhile"}


async def until_refused(app: Application) -> int:
    """Publish until the broker knows that a right was taken; returns how many it still wrote."""
    for written in range(1000):
        try:
            await (await app.raw_publish("orders", b"still"))
        except DeliveryFailedError:
            return written
    raise AssertionError("the right is still there")


@pytest.mark.f41
async def test_who_may_write_again_writes_again(secured: KafkaCluster) -> None:
    """A31: each refused message is told, nothing is poisoned for later ones."""
    alice = application(secured, "PLAIN", credentials("PLAIN"))
    prefix = alice.settings.topic_prefix
    bob = application(secured, "PLAIN", credentials("PLAIN", "bob-pw", "bob"))
    bob.configure(topic_prefix=prefix)

    rights = Rights(secured, prefix)
    rights.give("TOPIC", "WRITE")
    async with alice, bob:
        await (await alice.raw_publish("orders", b"of alice"))
        await (await bob.raw_publish("orders", b"before"))
        rights.take("TOPIC", "WRITE")
        written = 2 + await until_refused(bob)
        refused = [await bob.raw_publish("orders", b"meanwhile") for _ in range(3)]
        for delivery in refused:
            with pytest.raises(DeliveryFailedError, match="TopicAuthorizationFailed"):
                await delivery
        rights.give("TOPIC", "WRITE")
        after = await (await bob.raw_publish("orders", b"after"))
        counts = bob.status().published

    assert after.offset == written
    assert (counts["acked"], counts["failed"], counts["replaced"]) == (written, 4, 0)


async def test_dead_letters_that_may_not_be_written_are_written_when_they_may(
    secured: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither made, nor written once they are there; the record waits, and nothing else does."""
    alice = application(secured, "PLAIN", credentials("PLAIN"))
    prefix = alice.settings.topic_prefix
    bob = application(secured, "PLAIN", credentials("PLAIN", "bob-pw", "bob"))
    bob.configure(topic_prefix=prefix, partitions=2, auto_commit_interval_ms=100)
    plugin = RetryPlugin(RetrySettings(attempts=1))
    bob.plugins.register(plugin)
    handled: list[bytes] = []

    @bob.subscribe("orders", f"{prefix}g", ordering="unordered")
    async def handle(data: bytes) -> None:
        handled.append(data)
        if data == b"bad":
            raise LookupError("no such customer")

    Rights(secured, f"{prefix}orders").give("TOPIC", "READ")
    Rights(secured, f"{prefix}g").give("GROUP", "READ")
    Rights(secured, f"{prefix}other").give("TOPIC", "WRITE")  # so that its producer may start
    letters = Rights(secured, f"{prefix}dlq.")
    async with alice, bob:
        for data in (b"bad", b"good"):
            await (await alice.raw_publish("orders", data, partition=0))
        consuming = asyncio.create_task(bob.consume_forever())
        await eventually(lambda: "dlq" in str(bob.health().reasons) and len(handled) == 2)
        letters.give("TOPIC", "CREATE")
        letters.give("TOPIC", "DESCRIBE")
        await eventually(lambda: "nothing was written" in str(bob.health().reasons), within=20)
        async with Cluster(alice.settings) as cluster:
            committed = await cluster.committed(f"{prefix}g")
        assert [one.offset for one in committed.values() if one.offset] == []
        assert plugin.counts["dead"] == 0
        letters.give("TOPIC", "WRITE")
        await eventually(lambda: plugin.counts["dead"] == 1, within=20)
        # Not before: a topic that appears means a rebalance, and then a record whose letter is not
        # written is handled again.
        for operation in ("CREATE", "READ"):
            Rights(secured, f"{prefix}retry.").give("TOPIC", operation)
        await eventually(lambda: not bob.health().reasons, within=20)
        await bob.stop()
        await consuming

    assert sorted(handled) == [b"bad", b"good"], "only the dead letter was tried again"
    assert caplog.text.count("which failed in group") == 1
