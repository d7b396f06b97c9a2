"""TLS and passwords to every engine: the connections that work, and the errors of those that do not."""

import os
import socketserver
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr

from ops.commands.init import init
from shared.cassandra.session import connect
from shared.errors import ConfigurationError, Unavailable
from shared.kafka.producer import Producer, client_options
from shared.kafka.topics import apply_topics
from shared.observability.metrics import Service
from shared.s3.bucket import apply_bucket
from shared.s3.store import S3Store
from shared.settings import Settings, Topic
from tests.support.engines.secure import Secured, secured_engines
from tests.support.images import encode, photo
from tests.support.isolation import in_own_loop
from tests.support.ports import free_port
from tests.support.processes.service import ServiceProcess
from tests.support.waiting import wait_for, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_engines(tmp_path_factory.mktemp("secured")) as engines:
        yield engines


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Producer]:
    producer = Producer(settings)
    try:
        await producer.start()
        yield producer
    finally:
        await producer.close()


async def refusal(settings: Settings) -> str:
    with pytest.raises(Unavailable) as caught:
        async with started(settings):
            raise AssertionError("the broker let us in")
    return str(caught.value)


async def round_trip(settings: Settings) -> None:
    """A record from the product's producer, read back by a consumer with the product's options."""
    topic, value = settings.topic(Topic.DLQ), os.urandom(8)
    async with started(settings) as producer:
        await producer.send(topic, value, key=b"key", headers=[])
    consumer = AIOKafkaConsumer(topic, **client_options(settings), auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with within(30):
            while (await consumer.getone()).value != value:
                pass
    finally:
        await consumer.stop()


async def test_kafka_accepts_scram_over_tls(secured: Secured) -> None:
    await round_trip(secured.settings())


async def test_kafka_accepts_a_client_certificate(secured: Secured) -> None:
    certificate, key = secured.authority.issue("client")
    await round_trip(mutual(secured, kafka_client_cert_file=certificate, kafka_client_key_file=key))


def mutual(secured: Secured, **changes: object) -> Settings:
    return secured.settings(kafka_bootstrap_servers=secured.mutual, kafka_security_protocol="SSL", **changes)


async def test_refused_kafka_connection_names_the_setting(secured: Secured) -> None:
    wrong_password = await refusal(secured.settings(kafka_sasl_password=SecretStr("wrong")))
    assert "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD" in wrong_password
    assert "wrong" not in wrong_password

    for ca_file in (None, secured.other_authority.ca_file):
        assert "set KAFKA_CA_FILE" in await refusal(secured.settings(kafka_ca_file=ca_file))

    no_tls = await refusal(secured.settings(kafka_security_protocol="PLAINTEXT"))
    assert "uses TLS, but KAFKA_SECURITY_PROTOCOL is" in no_tls

    assert "a client certificate" in await refusal(mutual(secured))

    unreachable = await refusal(secured.settings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}"))
    assert "no broker answers" in unreachable
    assert "KAFKA_BOOTSTRAP_SERVERS" in unreachable


async def test_topics_command_names_the_setting_of_a_refused_connection(secured: Secured) -> None:
    with pytest.raises(ConfigurationError, match="set KAFKA_CA_FILE"):
        await apply_topics(secured.settings(kafka_ca_file=None))


def test_invalid_certificate_files_are_named(secured: Secured, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ConfigurationError, match=r"KAFKA_CA_FILE=.*holds no PEM certificate"):
        client_options(secured.settings(kafka_ca_file=empty))
    with pytest.raises(ConfigurationError, match="KAFKA_CLIENT_CERT_FILE"):
        client_options(secured.settings(kafka_client_cert_file=empty, kafka_client_key_file=empty))
    with pytest.raises(ConfigurationError, match="CASSANDRA_CA_FILE"):
        connect(secured.settings(cassandra_ca_file=empty))


def test_cassandra_accepts_a_password_over_tls(secured: Secured) -> None:
    session = connect(secured.settings())
    assert session.execute("SELECT release_version FROM system.local").one() is not None
    session.cluster.shutdown()


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"cassandra_password": SecretStr("wrong")}, "check CASSANDRA_USERNAME and CASSANDRA_PASSWORD"),
        ({"cassandra_username": None, "cassandra_password": None}, "check CASSANDRA_USERNAME and CASSANDRA_PASSWORD"),
        ({"cassandra_ca_file": None}, "set CASSANDRA_CA_FILE"),
        ({"cassandra_tls": False}, "CASSANDRA_TLS is off"),
    ],
)
def test_refused_cassandra_connection_names_the_setting(secured: Secured, changes: dict[str, Any], advice: str) -> None:
    with pytest.raises(Unavailable) as caught:
        connect(secured.settings(**changes))
    assert advice in str(caught.value)


@pytest.mark.parametrize("checked", [True, False])
def test_certificate_for_another_address_is_refused_unless_unchecked(secured: Secured, checked: bool) -> None:
    """The driver connects by IP address, also if CASSANDRA_CONTACT_POINTS is a name. The server only does TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*secured.authority.issue("elsewhere", "127.0.0.9"))
    handshakes: list[bool] = []

    class Handshake(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                context.wrap_socket(self.request, server_side=True).close()
                handshakes.append(True)
            except OSError:
                handshakes.append(False)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handshake) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        with pytest.raises(Unavailable) as caught:
            connect(secured.settings(cassandra_port=port, cassandra_check_hostname=checked))
        server.shutdown()
    assert ("CASSANDRA_CHECK_HOSTNAME=false" in str(caught.value)) is checked
    assert any(handshakes) is not checked


async def test_s3_accepts_tls_with_a_private_authority(secured: Secured) -> None:
    apply_bucket(secured.settings())
    store = S3Store.from_settings(secured.settings())
    await store.put("a", b"b", "text/plain")
    assert await store.get("a") == b"b"
    await store.close()


async def test_refused_s3_connection_names_the_setting(secured: Secured) -> None:
    for ca_file in (None, secured.other_authority.ca_file):
        settings = secured.settings(s3_ca_file=ca_file)
        store = S3Store.from_settings(settings)
        with pytest.raises(Unavailable, match="set S3_CA_FILE"):
            await store.check()
        await store.close()
        with pytest.raises(ConfigurationError, match="set S3_CA_FILE"):
            apply_bucket(settings)


def test_all_services_work_over_secure_connections(secured: Secured, tmp_path: Path) -> None:
    """An upload becomes ready: gateway, Faust, the processor's producer and the indexer all connect."""
    own: dict[str, Any] = {"topic_prefix": "services.", "cassandra_keyspace": "services", "s3_bucket": "services"}
    settings = secured.settings(**own, gateway_port=free_port())
    in_own_loop(lambda: init(settings))
    url = f"http://127.0.0.1:{settings.gateway_port}"
    with ExitStack() as stack:
        processes = [ServiceProcess(service, settings, tmp_path / f"{service}.log") for service in Service]
        for process in processes:
            stack.callback(process.end)
            process.start()
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            for process in processes:
                process.wait_ready(90)
            answer = client.post("/images", files={"image": ("a.jpg", encode(photo(200, 100), "JPEG"), "image/jpeg")})
            assert answer.status_code == 202, answer.text
            path = f"/images/{answer.json()['image_id']}/metadata"
            wait_for(lambda: client.get(path).json()["status"] == "ready", 60, "the image is ready")
