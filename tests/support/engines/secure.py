"""Engines of the local stack with TLS and passwords, for the tests of secure connections."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from deploy.local import ports
from deploy.local.cache import user_cache
from deploy.local.engines import cassandra, kafka, s3
from deploy.local.engines.java_command import java_command
from deploy.local.engines.java_runtime import find_java
from deploy.local.reporting import Reporter
from deploy.local.stack import fetch
from deploy.local.state import Root, State
from deploy.local.supervision.parts import Part
from deploy.local.supervision.process import TIED_TO
from deploy.local.topology import Member
from shared.cassandra.session import connect
from shared.errors import ImagepipeError
from shared.kafka.topics import apply_topics
from shared.s3.store import s3_client
from shared.settings import Settings
from tests.support.engines.certificates import Authority
from tests.support.isolation import in_own_loop
from tests.support.waiting import wait_for

USER = "imagepipe"
BUCKET = "imagepipe"
"""The services' user may work in it; the tests use the root user."""
PASSWORD = "for-as-long-as-the-test-lives"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
PORTS = (*kafka.PORTS, "kafka_scram", "kafka_mutual", *cassandra.PORTS, *s3.PORTS)


@dataclass(frozen=True)
class Secured:
    """Running engines. `environment` is what a service needs to reach them."""

    environment: Mapping[str, str]
    authority: Authority
    other_authority: Authority
    mutual: str
    """Listener of the broker that asks for a client certificate, as host:port."""

    def settings(self, **changes: object) -> Settings:
        """Settings that work, with these changes."""
        values = {name.lower(): value for name, value in self.environment.items()} | changes
        return Settings(_env_file=None, **values)  # type: ignore[arg-type]


@contextmanager
def secured_engines(directory: Path) -> Iterator[Secured]:
    """Kafka with SCRAM over TLS and with mutual TLS, Cassandra with TLS and a password, S3 over TLS."""
    state = State(ports=ports.assign(PORTS, {}))
    root = Root(directory / "root")
    root.create()
    authority, other = Authority(directory, "authority"), Authority(directory, "stranger")
    certificate, key = authority.issue("engine", ports.LOOPBACK)
    keystore = authority.keystore(certificate, key)
    found = fetch((kafka.NAME, cassandra.NAME, s3.NAME), user_cache(), Reporter(Console(stderr=True)))
    java, env = find_java(), dict(os.environ)
    with ExitStack() as stack:
        node = cassandra.part(root, state, Member(cassandra.NAME, 1, 1), java, found[cassandra.NAME], env)
        server = s3.part(root, state, BUCKET, found[s3.NAME], env)
        stack.enter_context(_running(_cassandra(root, node, state, keystore), env, root))
        stack.enter_context(_running(_s3(server, certificate, key), server.env, root))
        broker = _kafka(root, state, java, found[kafka.NAME], keystore, authority.ca_file)
        stack.enter_context(_running(broker, env, root))
        mutual = f"{ports.LOOPBACK}:{state.ports['kafka_mutual']}"
        secured = Secured(_environment(state, authority.ca_file), authority, other, mutual)
        _wait(secured.settings())
        yield secured


def _environment(state: State, ca_file: Path) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": f"{ports.LOOPBACK}:{state.ports['kafka_scram']}",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_CA_FILE": str(ca_file),
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "CASSANDRA_CONTACT_POINTS": ports.LOOPBACK,
        "CASSANDRA_PORT": str(state.ports["cassandra"]),
        "CASSANDRA_TLS": "true",
        "CASSANDRA_CA_FILE": str(ca_file),
        # What a new cluster starts with.
        "CASSANDRA_USERNAME": "cassandra",
        "CASSANDRA_PASSWORD": "cassandra",
        "S3_ENDPOINT_URL": s3.endpoint_url(state).replace("http://", "https://"),
        "S3_CA_FILE": str(ca_file),
        "S3_ACCESS_KEY_ID": state.secrets.s3_root_key,
        "S3_SECRET_ACCESS_KEY": state.secrets.s3_root_secret,
        "TOPIC_PARTITIONS": "2",
    }


def _kafka(root: Root, state: State, java: Path, jars: Path, keystore: Path, ca_file: Path) -> tuple[str, ...]:
    """Two listeners more: CLIENT asks for a password by SCRAM, MUTUAL for a certificate."""
    data = root.data / kafka.NAME
    data.mkdir()
    listeners = {
        "PLAINTEXT": kafka.bootstrap_servers(state),
        "CLIENT": f"{ports.LOOPBACK}:{state.ports['kafka_scram']}",
        "MUTUAL": f"{ports.LOOPBACK}:{state.ports['kafka_mutual']}",
    }
    advertised = ",".join(f"{name}://{address}" for name, address in listeners.items())
    values = {
        "listeners": f"{advertised},CONTROLLER://{ports.LOOPBACK}:{state.ports['kafka_controller']}",
        "advertised.listeners": advertised,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENT:SASL_SSL,MUTUAL:SSL",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": SCRAM,
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for listener in ("client", "mutual"):
        for store, path in (("keystore", keystore), ("truststore", ca_file)):
            values[f"listener.name.{listener}.ssl.{store}.type"] = "PEM"
            values[f"listener.name.{listener}.ssl.{store}.location"] = str(path)
    properties = data / "server.properties"
    # A later line wins.
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    properties.write_text(kafka.render_properties(state, Member(kafka.NAME, 1, 1), data / "log") + lines)
    user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    tool = [
        "kafka.tools.StorageTool",
        "format",
        "-t",
        state.kafka_cluster_id,
        "--add-scram",
        user,
        "-c",
        str(properties),
    ]
    options = [f"-Dlog4j2.configurationFile={kafka.LOGGING}"]
    subprocess.run(java_command(java, 128, jars, options, tool), check=True, capture_output=True)
    return java_command(java, 256, jars, options, ["kafka.Kafka", str(properties)])


def _cassandra(root: Root, part: Part, state: State, keystore: Path) -> tuple[str, ...]:
    part.prepare()
    path = root.data / cassandra.NAME / "cassandra.yaml"
    secure = {
        "authenticator": {"class_name": "PasswordAuthenticator"},
        "authorizer": {"class_name": "CassandraAuthorizer"},
        "role_manager": {"class_name": "CassandraRoleManager"},
        "client_encryption_options": {
            "enabled": True,
            "optional": False,
            "ssl_context_factory": {"class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"},
            "keystore": str(keystore),
        },
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | secure))
    return (part.argv[0], "-Dcassandra.superuser_setup_delay_ms=0", *part.argv[1:])


def _s3(part: Part, certificate: Path, key: Path) -> tuple[str, ...]:
    part.prepare()
    return (*part.argv, f"-s3.cert.file={certificate.absolute()}", f"-s3.key.file={key.absolute()}")


@contextmanager
def _running(argv: tuple[str, ...], env: Mapping[str, str], root: Root) -> Iterator[None]:
    wrapped = [*TIED_TO, str(os.getpid()), *argv]
    with (root.logs / f"{len(list(root.logs.iterdir()))}.log").open("wb") as log:
        process = subprocess.Popen(wrapped, env=dict(env), stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait(20)


def _wait(settings: Settings) -> None:
    def ready() -> bool:
        try:
            connect(settings).cluster.shutdown()
            client = s3_client(settings)
            client.list_buckets()
            client.close()
            in_own_loop(lambda: apply_topics(settings))
        except (ImagepipeError, BotoCoreError, ClientError):
            return False
        return True

    wait_for(ready, 180, "the secured engines accept connections")
