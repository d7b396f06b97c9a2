"""Every setting of every service, read from the environment (or a `.env` file) in one typed class.

Services turn these into arguments at start-up; nothing below `main()` reads the environment.
"""

import contextlib
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, FilePath, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.contract.ladder import Ladder

MIB = 1024 * 1024


def _seconds(value: object) -> object:
    """A bare number is taken as seconds; the environment gives text, which pydantic would refuse."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]


class Topic(StrEnum):
    """Logical names of the topics; physical names are `Settings.topic_prefix` + this."""

    COMMANDS = "images.commands"
    EVENTS = "images.events"
    DLQ = "images.commands.dlq"


class Settings(BaseSettings):
    """All settings. Each field's name in upper case is its environment variable."""

    # An empty variable is an unset one: that is what compose files and shells make of `NAME=`.
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    # Kafka
    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Brokers, comma-separated host:port.")
    topic_prefix: str = Field("", description="Put before each topic's name; lets several stacks share a cluster.")
    topic_partitions: int = Field(
        8, ge=1, description="Partitions of each topic. Fixed for ever: another count means a new epoch."
    )
    topic_replication_factor: int = Field(1, ge=1, description="Replicas of each topic; 3 in production.")
    topic_min_insync_replicas: int = Field(1, ge=1, description="2 in production, so that an ack survives a broker.")
    commands_retention: Duration = Field(timedelta(days=30), description="How long commands and DLQ are kept.")
    epoch: int = Field(
        1,
        ge=1,
        lt=2048,
        description="High bits of each version; raised when the commands topic is recreated or mirrored.",
    )
    kafka_send_timeout: Duration = Field(
        timedelta(seconds=15),
        description="After this a write's outcome is unknown: 503. A leader election took up to 11 s.",
    )
    kafka_session_timeout: Duration = Field(
        timedelta(seconds=10), description="A killed consumer's partitions move after this."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SASL_SSL in production: encrypted, and with a password."
    )
    kafka_ca_file: FilePath | None = Field(
        None, description="PEM file of the authorities that sign the brokers' certificates; unset: the system's."
    )
    kafka_client_cert_file: FilePath | None = Field(
        None, description="PEM certificate that we show to the brokers, for clusters that ask for one (mutual TLS)."
    )
    kafka_client_key_file: FilePath | None = Field(None, description="PEM key of KAFKA_CLIENT_CERT_FILE, unencrypted.")
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="How the password is shown; PLAIN sends it as it is, so only inside TLS."
    )
    kafka_sasl_username: str | None = Field(None, description="Required by the two SASL protocols.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Required by the two SASL protocols.")

    # S3
    s3_endpoint_url: str | None = Field(None, description="Where the services reach the bucket; unset: AWS.")
    s3_public_endpoint_url: str | None = Field(None, description="Where clients with temporary keys reach it.")
    s3_region: str = Field("us-east-1", description="Part of every signature; the bucket's region on AWS.")
    s3_bucket: str = Field("imagepipe", description="One private bucket for one deployment.")
    s3_access_key_id: str | None = Field(None, description="Unset: the usual AWS credential chain.")
    s3_secret_access_key: SecretStr | None = Field(None, description="Belongs to S3_ACCESS_KEY_ID.")
    s3_admin_access_key_id: str | None = Field(
        None, description="Read by `imagepipe init` only, to make the bucket; unset: S3_ACCESS_KEY_ID."
    )
    s3_admin_secret_access_key: SecretStr | None = Field(None, description="Belongs to S3_ADMIN_ACCESS_KEY_ID.")
    s3_manage_bucket: bool = Field(
        True, description="False: `imagepipe init` leaves the bucket alone, because Terraform or a person made it."
    )
    s3_addressing_style: Literal["path", "virtual", "auto"] = Field(
        "path", description="`virtual` on AWS; most other stores take `path` only."
    )
    s3_ca_file: FilePath | None = Field(
        None, description="PEM file of the authority that signs the S3 server's certificate; unset: the public ones."
    )
    s3_checksums: Literal["when_required", "when_supported"] = Field(
        "when_required", description="Many S3-compatible stores reject the newer trailing checksums."
    )
    s3_threads: int = Field(16, ge=1, description="Concurrent S3 calls of one process.")
    s3_timeout: Duration = Field(
        timedelta(seconds=10),
        description="Per call, the retry included; a store that takes longer counts as away. Half of it per attempt.",
    )
    tombstone_retention: Duration = Field(
        timedelta(days=70), description="How long a deletion is remembered: longer than commands and DLQ together."
    )

    # Cassandra
    cassandra_contact_points: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1",), description="Comma-separated hosts."
    )
    cassandra_port: int = Field(9042, ge=1, le=65535, description="Native protocol; the same on every node.")
    cassandra_keyspace: str = Field(
        "imagepipe", pattern=r"^[a-z][a-z0-9_]{0,47}$", description="Holds the rows; can be dropped and rebuilt."
    )
    cassandra_datacenter: str = Field("datacenter1", description="The one whose nodes are asked: LOCAL_QUORUM.")
    cassandra_replication_factor: int = Field(1, ge=1, description="3 in production.")
    cassandra_username: str | None = Field(None, description="Unset: the cluster lets everybody in.")
    cassandra_password: SecretStr | None = Field(None, description="Belongs to CASSANDRA_USERNAME.")
    cassandra_tls: bool = Field(False, description="Encrypt connections and check the nodes' certificates.")
    cassandra_ca_file: FilePath | None = Field(
        None, description="PEM file of the authority that signs the nodes' certificates; unset: the system's."
    )
    cassandra_check_hostname: bool = Field(
        True, description="False for nodes whose certificates do not name their IP addresses."
    )
    cassandra_timeout: Duration = Field(timedelta(seconds=5), description="Per query, the driver's retries included.")
    day_shards: int = Field(4, ge=1, le=64, description="Partitions per day of the global list. Fixed for ever.")

    # Gateway
    gateway_host: str = Field("127.0.0.1", description="Interface of the public port; 0.0.0.0 in a container.")
    gateway_port: int = Field(8000, ge=0, description="Public port of the REST API; there is no authentication on it.")
    gateway_internal_port: int = Field(8001, ge=0, description="Health and metrics; never exposed to clients.")
    public_base_url: str = Field("http://127.0.0.1:8000", description="What clients see; every URL is built on it.")
    max_upload_bytes: int = Field(5 * MIB, ge=1, description="Per file; exactly this many bytes are still accepted.")
    max_pixels: int = Field(64_000_000, ge=1, description="More is refused at once (422).")
    max_side: int = Field(16383, ge=1, le=16383, description="WebP's limit in pixels.")
    max_files_per_request: int = Field(20, ge=1, description="Bounds the time and memory of one request.")
    max_concurrent_uploads: int = Field(32, ge=1, description="Beyond it: 429 with Retry-After.")
    max_upload_memory: int = Field(
        256 * MIB, ge=1, description="Bytes of all uploads under way in one gateway; beyond it: 429."
    )
    upload_idle_timeout: Duration = Field(
        timedelta(seconds=10), description="A sender that is silent for longer is cut off (408)."
    )
    upload_min_rate: int = Field(
        16 * 1024, ge=1, description="Bytes a second that a sender must reach on average after the first silence."
    )
    max_wait: Duration = Field(timedelta(seconds=30), description="The longest `Prefer: wait` that is honoured.")
    idempotency_lease: Duration = Field(
        timedelta(seconds=60),
        description="So long a claimed Idempotency-Key is in flight; later a repeat goes on under the same ids.",
    )
    gateway_drain_timeout: Duration = Field(
        timedelta(seconds=30), description="At SIGTERM requests under way may take this long to end."
    )
    credentials_enabled: bool = Field(False, description="Serve temporary keys at POST /credentials.")
    credentials_duration: Duration = Field(timedelta(hours=1), description="Life of a temporary key by default.")
    credentials_max_duration: Duration = Field(
        timedelta(days=1), description="The longest that may be asked for; AWS itself stops at 12 hours."
    )
    sts_endpoint_url: str | None = Field(None, description="Unset: the S3 endpoint, or AWS where that is unset too.")
    sts_role_arn: str = Field(
        "arn:aws:iam::000000000000:role/imagepipe-upload",
        description="Role that temporary keys assume; servers that have no roles ignore it.",
    )
    list_cache_ttl: Duration = Field(timedelta(seconds=1), description="How long a list or row may be served stale.")
    media_max_age: Duration = Field(timedelta(days=1), description="How long a CDN keeps media.")
    public_originals: bool = Field(True, description="False: `original` is not served to the public, only variants.")

    # Processor
    processor_internal_port: int = Field(8011, ge=0, description="Health and metrics of the processor.")
    render_workers: int = Field(2, ge=1, description="Processes that decode and encode.")
    render_timeout: Duration = Field(timedelta(seconds=60), description="Per image and attempt.")
    max_inflight_images: int = Field(16, ge=1, description="Admitted commands per worker.")
    max_inflight_bytes: int = Field(64 * MIB, ge=1, description="Of admitted originals; bounds the memory.")
    max_inflight_pixels: int = Field(
        64_000_000,
        ge=1,
        description="Of all admitted, and with every frame of all being decoded; an image above it runs alone. "
        "Each takes 12 bytes, with alpha 34.",
    )
    max_frames: int = Field(120, ge=1, description="A longer animation becomes its first frame.")
    max_animation_pixels: int = Field(64_000_000, ge=1, description="Frames times area; beyond: first frame.")
    outage_patience: Duration = Field(
        timedelta(seconds=20), description="An engine away for longer: the process exits unacked for its supervisor."
    )
    unforeseen_attempts: int = Field(3, ge=1, description="Tries before a surprise goes to the DLQ.")
    dlq_limit_per_minute: int = Field(60, ge=1, description="More surprises than this stop the process instead.")
    ladder: Ladder = Field(default_factory=Ladder, description="JSON; sizes and qualities of the variants.")

    # Indexer
    indexer_internal_port: int = Field(8021, ge=0, description="Health and metrics of the indexer.")
    indexer_concurrency: int = Field(64, ge=1, description="Cassandra writes in flight.")

    # Housekeeping
    sweep_delay: Duration = Field(timedelta(hours=1), description="A superseded render lives this long on.")

    # All services
    internal_host: str = Field("127.0.0.1", description="Interface of the internal ports; 0.0.0.0 in a container.")
    log_format: Literal["json", "console"] = Field("json", description="`console` for people.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least that is written.")
    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="OTLP/HTTP collector that takes traces, such as http://127.0.0.1:4318; unset: none are made."
    )

    @field_validator("cassandra_contact_points", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return tuple(host.strip() for host in value.split(",")) if isinstance(value, str) else value

    @field_validator("public_base_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        pairs = {
            "KAFKA_CLIENT_CERT_FILE and KAFKA_CLIENT_KEY_FILE": (
                self.kafka_client_cert_file,
                self.kafka_client_key_file,
            ),
            "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD": (self.kafka_sasl_username, self.kafka_sasl_password),
            "CASSANDRA_USERNAME and CASSANDRA_PASSWORD": (self.cassandra_username, self.cassandra_password),
            "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY": (self.s3_access_key_id, self.s3_secret_access_key),
            "S3_ADMIN_ACCESS_KEY_ID and S3_ADMIN_SECRET_ACCESS_KEY": (
                self.s3_admin_access_key_id,
                self.s3_admin_secret_access_key,
            ),
        }
        for names, (one, other) in pairs.items():
            if bool(one) != bool(other):
                raise ValueError(f"{names} belong together: set both or neither")
        if self.kafka_security_protocol.startswith("SASL") and not self.kafka_sasl_username:
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs KAFKA_SASL_USERNAME and "
                "KAFKA_SASL_PASSWORD"
            )
        return self

    def topic(self, topic: Topic) -> str:
        """Physical name of a topic."""
        return f"{self.topic_prefix}{topic.value}"
