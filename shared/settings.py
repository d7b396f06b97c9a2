"""Every setting of every service in one typed class, read from the environment or from a file `.env`.

Services read the settings once, when they start, and pass them on as arguments. Other code reads no environment.
The descriptions are the text of docs/configuration.md: run `make docs` after a change.
"""

import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    FilePath,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from shared.contract.ladder import PRESETS, Ladder
from shared.errors import ConfigurationError

MIB = 1024 * 1024


def _seconds(value: object) -> object:
    """Read a plain number as seconds. The environment gives it as text, which pydantic would refuse."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]


def _preset_or_json(value: object) -> object:
    """Read a ladder: the name of a preset, or JSON. Values of other types are left as they are."""
    if not isinstance(value, str):
        return value
    try:
        return PRESETS.get(value) or json.loads(value)
    except ValueError:
        raise ValueError(f"neither JSON nor one of {', '.join(PRESETS)}") from None


class Topic(StrEnum):
    """Logical names of the topics. The name in Kafka has `Settings.topic_prefix` in front of it."""

    COMMANDS = "images.commands"
    EVENTS = "images.events"
    DLQ = "images.commands.dlq"


class Settings(BaseSettings):
    """All settings. Each field's name in upper case is its environment variable."""

    # An empty variable counts as unset: compose files and shells produce one from `NAME=`.
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    # Kafka
    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, as comma-separated host:port.")
    topic_prefix: str = Field(
        "", description="Put before the name of each topic, so that several deployments can share one Kafka cluster."
    )
    topic_partitions: int = Field(
        8,
        ge=1,
        description="Partitions of each topic. It cannot be changed later: the runbook `more-partitions` moves the "
        "log to new topics with a higher EPOCH.",
    )
    topic_replication_factor: int = Field(1, ge=1, description="Replicas of each topic. Use 3 in production.")
    topic_min_insync_replicas: int = Field(
        1,
        ge=1,
        description="Replicas that must have a record before Kafka acknowledges it. Use 2 in production: an "
        "acknowledged record then survives the loss of a broker.",
    )
    commands_retention: Duration = Field(
        timedelta(days=30), description="How long Kafka keeps commands and dead letters."
    )
    epoch: int = Field(
        1,
        ge=1,
        lt=2048,
        description="The high bits of each version. Raise it by one, on every service, when the commands topic is "
        "created anew or copied to another cluster.",
    )
    kafka_send_timeout: Duration = Field(
        timedelta(seconds=15),
        description="Time-out for the ack of a write. After it the outcome is unknown, and the gateway answers 503. "
        "The default is above the longest leader election that was measured (11 s).",
    )
    kafka_session_timeout: Duration = Field(
        timedelta(seconds=10),
        description="Time without heartbeats after which Kafka gives the partitions of a consumer to another one.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="Protocol of the connections to the brokers. Use SASL_SSL in production: it encrypts, and logs "
        "in with a password.",
    )
    kafka_ca_file: FilePath | None = Field(
        None,
        description="PEM file with the authorities that sign the brokers' certificates. Unset: the authorities of "
        "the operating system.",
    )
    kafka_client_cert_file: FilePath | None = Field(
        None, description="PEM file with the certificate that the services present to the brokers (mutual TLS)."
    )
    kafka_client_key_file: FilePath | None = Field(
        None,
        description="PEM file with the private key of KAFKA_CLIENT_CERT_FILE. The key must not be encrypted.",
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512",
        description="SASL mechanism. PLAIN sends the password in clear text: use it with SASL_SSL only.",
    )
    kafka_sasl_username: str | None = Field(None, description="User name. Required with SASL_PLAINTEXT and SASL_SSL.")
    kafka_sasl_password: SecretStr | None = Field(
        None, description="Password. Required with SASL_PLAINTEXT and SASL_SSL."
    )

    # S3
    s3_endpoint_url: str | None = Field(None, description="URL at which the services reach the S3 store. Unset: AWS.")
    s3_public_endpoint_url: str | None = Field(
        None,
        description="URL at which clients with temporary keys reach the S3 store. Unset: S3_ENDPOINT_URL.",
    )
    s3_region: str = Field(
        "us-east-1",
        description="Region of the bucket. It is part of every signature, so other stores than AWS need a value too.",
    )
    s3_bucket: str = Field(
        "imagepipe", description="Name of the bucket. Each deployment needs its own, and it must be private."
    )
    s3_access_key_id: str | None = Field(
        None, description="Access key of the services. Unset: the AWS credential chain."
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="Secret of S3_ACCESS_KEY_ID.")
    s3_admin_access_key_id: str | None = Field(
        None,
        description="Access key with which `imagepipe init` creates the bucket. Nothing else reads it. Unset: "
        "S3_ACCESS_KEY_ID.",
    )
    s3_admin_secret_access_key: SecretStr | None = Field(None, description="Secret of S3_ADMIN_ACCESS_KEY_ID.")
    s3_manage_bucket: bool = Field(
        True,
        description="Whether `imagepipe init` creates the bucket and its lifecycle rules. Use false if Terraform or "
        "a person does.",
    )
    s3_addressing_style: Literal["path", "virtual", "auto"] = Field(
        "path", description="How a URL names the bucket. Use `virtual` on AWS; most other stores accept `path` only."
    )
    s3_ca_file: FilePath | None = Field(
        None,
        description="PEM file with the authority that signs the S3 server's certificate. Unset: the public "
        "authorities.",
    )
    s3_checksums: Literal["when_required", "when_supported"] = Field(
        "when_required",
        description="When the services' S3 client sends and checks trailing checksums. Many S3-compatible stores "
        "reject them, so the default is `when_required`.",
    )
    s3_threads: int = Field(16, ge=1, description="Concurrent S3 calls of one process.")
    s3_timeout: Duration = Field(
        timedelta(seconds=10),
        description="Time-out of one S3 call with its retry; each attempt gets half of it. A store that takes longer "
        "counts as unavailable. The time-out does not count the wait for a thread while the store answers other calls.",
    )
    tombstone_retention: Duration = Field(
        timedelta(days=70),
        description="How long a tombstone is kept. It must be longer than twice COMMANDS_RETENTION: Kafka keeps a "
        "command that long, and then its dead letter as long again.",
    )

    # Cassandra
    cassandra_contact_points: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1",), description="Comma-separated hosts of the nodes to which a service connects first."
    )
    cassandra_port: int = Field(
        9042, ge=1, le=65535, description="Port of Cassandra's native protocol, the same on every node."
    )
    cassandra_keyspace: str = Field(
        "imagepipe",
        pattern=r"^[a-z][a-z0-9_]{0,47}$",
        description="Keyspace with the rows. It can be dropped and built again from the log.",
    )
    cassandra_datacenter: str = Field(
        "datacenter1", description="Data center whose nodes answer the queries (consistency level LOCAL_QUORUM)."
    )
    cassandra_replication_factor: int = Field(1, ge=1, description="Replicas of the keyspace. Use 3 in production.")
    cassandra_username: str | None = Field(None, description="User name. Unset: the services connect without a login.")
    cassandra_password: SecretStr | None = Field(None, description="Password of CASSANDRA_USERNAME.")
    cassandra_tls: bool = Field(
        False, description="Whether to encrypt the connections and to check the nodes' certificates."
    )
    cassandra_ca_file: FilePath | None = Field(
        None,
        description="PEM file with the authority that signs the nodes' certificates. Unset: the authorities of the "
        "operating system.",
    )
    cassandra_check_hostname: bool = Field(
        True,
        description="Whether a node's certificate must name its IP address. Use false if the certificates name none.",
    )
    cassandra_timeout: Duration = Field(
        timedelta(seconds=5), description="Time-out of one query with the driver's retries."
    )
    day_shards: int = Field(
        4,
        ge=1,
        le=64,
        description="Partitions that share the images of one day in the list of all images. It cannot be changed "
        "later.",
    )

    # Gateway
    gateway_host: str = Field("127.0.0.1", description="Interface of the public port. Use 0.0.0.0 in a container.")
    gateway_port: int = Field(8000, ge=0, description="Port of the REST API. The API has no authentication.")
    gateway_internal_port: int = Field(
        8001, ge=0, description="Port for health and metrics. Never expose it to clients."
    )
    page_enabled: bool = Field(True, description="Whether `GET /` is the page where people upload and see images.")
    public_base_url: str = Field(
        "http://127.0.0.1:8000",
        description="Start of every URL that clients get: the address of the CDN, or of the gateway.",
    )
    max_upload_bytes: int = Field(5 * MIB, ge=1, description="Largest file that is accepted.")
    max_pixels: int = Field(
        64_000_000,
        ge=1,
        description="Maximum number of pixels of an image. The gateway refuses larger images with 422.",
    )
    max_side: int = Field(
        16383,
        ge=1,
        le=16383,
        description="Longest side of an image that is accepted. The default is the limit of WebP.",
    )
    max_files_per_request: int = Field(
        20,
        ge=1,
        description="Maximum number of files in one request. It bounds the time and the memory of a request.",
    )
    max_concurrent_uploads: int = Field(
        32,
        ge=1,
        description="Uploads that one gateway handles at the same time. More are refused with 429 and Retry-After. One "
        "client address gets at most as many as it leaves free: alone half of them, two addresses a third each.",
    )
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        (),
        description="Comma-separated addresses and networks (CIDR) of proxies in front of the gateway, which must "
        "append the client's address to X-Forwarded-For. From other addresses that header means nothing. An address in "
        "this list may itself use all of MAX_CONCURRENT_UPLOADS. Unset: no address is trusted.",
    )
    max_upload_memory: int = Field(
        256 * MIB,
        ge=1,
        description="Memory for all uploads that one gateway handles at the same time. Uploads that need more are "
        "refused with 429.",
    )
    upload_idle_timeout: Duration = Field(
        timedelta(seconds=10),
        description="Time without data after which the gateway ends an upload with 408. A connection that sends no "
        "complete request head within this time is closed.",
    )
    upload_min_rate: int = Field(
        16 * 1024,
        ge=1,
        description="Minimum rate of an upload, in bytes per second. An upload may take UPLOAD_IDLE_TIMEOUT, plus its "
        "bytes divided by this rate. The gateway ends slower ones with 408.",
    )
    max_wait: Duration = Field(
        timedelta(seconds=30), description="Longest wait that a client can ask for with `Prefer: wait`."
    )
    idempotency_lease: Duration = Field(
        timedelta(seconds=60),
        description="Time for which one request holds an Idempotency-Key. After it a repetition continues that "
        "request, under the same image ids.",
    )
    set_lease: Duration = Field(
        timedelta(seconds=30),
        description="Time for which a PUT of an owner's images excludes others without a renewal. If its gateway is "
        "killed, the owner's next PUT is refused with 409 for at most this time. It should be longer than "
        "KAFKA_SEND_TIMEOUT.",
    )
    gateway_drain_timeout: Duration = Field(
        timedelta(seconds=30), description="Time that running requests have to finish after SIGTERM."
    )
    credentials_enabled: bool = Field(False, description="Whether POST /credentials gives out temporary S3 keys.")
    credentials_duration: Duration = Field(
        timedelta(hours=1), description="Lifetime of a temporary key if the client asks for none."
    )
    credentials_max_duration: Duration = Field(
        timedelta(days=1), description="Longest lifetime that a client can ask for. AWS itself allows at most 12 hours."
    )
    sts_endpoint_url: str | None = Field(
        None,
        description="URL of the STS service that makes temporary keys. Unset: S3_ENDPOINT_URL, or AWS if that is "
        "unset too.",
    )
    sts_role_arn: str = Field(
        "arn:aws:iam::000000000000:role/imagepipe-upload",
        description="Role that temporary keys assume. Stores without roles ignore it.",
    )
    max_event_listeners: int = Field(
        1_000,
        ge=1,
        description="Streams of live events that one gateway serves at the same time. More are refused with 429.",
    )
    events_buffer_time: Duration = Field(
        timedelta(minutes=10),
        description="How far back a client can resume a stream of live events.",
    )
    events_buffer_memory: int = Field(
        64 * MIB,
        ge=1,
        description="Memory of one gateway for the live events of EVENTS_BUFFER_TIME. If they need more, the oldest "
        "are dropped.",
    )
    list_cache_ttl: Duration = Field(
        timedelta(seconds=1), description="How long the gateway may serve a cached list or row."
    )
    media_max_age: Duration = Field(timedelta(days=1), description="How long a CDN or browser may keep media.")
    public_originals: bool = Field(
        True, description="Whether originals are public. If false, clients get variants only."
    )

    # Processor
    processor_internal_port: int = Field(8011, ge=0, description="Port for health and metrics of the processor.")
    render_workers: int = Field(
        3,
        ge=1,
        description="Processes that decode and encode images, for each processor. With two or more, one is kept for "
        "images of up to 12 megapixels: set one more than the processor has cores.",
    )
    render_timeout: Duration = Field(timedelta(seconds=60), description="Time-out of one attempt to render one image.")
    max_inflight_images: int = Field(16, ge=1, description="Commands that one processor handles at the same time.")
    max_inflight_bytes: int = Field(
        64 * MIB,
        ge=1,
        description="Bytes of the originals that one processor handles at the same time. It bounds the memory.",
    )
    max_inflight_pixels: int = Field(
        64_000_000,
        ge=1,
        description="Pixels that one processor handles at the same time. It limits two sums separately: of "
        "the images in progress, each with one frame, and of the images that are being decoded, each with all its "
        "frames. With two or more RENDER_WORKERS one of them and a quarter of the pixels are kept for images of up to "
        "12 megapixels (or up to that quarter, if it is smaller). The other images share the rest, and one that is "
        "larger than the rest runs alone among them. A decoded pixel takes 12 bytes, with an alpha channel up to 42.",
    )
    max_frames: int = Field(
        120, ge=1, description="Maximum number of frames of an animation. A longer one is reduced to its first frame."
    )
    max_animation_pixels: int = Field(
        64_000_000,
        ge=1,
        description="Maximum number of pixels of an animation: frames times area. A larger one is reduced to its first "
        "frame.",
    )
    outage_retry_limit: Duration = Field(
        timedelta(seconds=20),
        description="Retry deadline while an engine (Kafka, S3 or Cassandra) is unavailable. After it the process "
        "exits without committing the record, and its supervisor starts it again.",
    )
    unexpected_error_attempts: int = Field(
        3,
        ge=1,
        description="Attempts to handle a record that fails with an unexpected error. After them the record goes to "
        "the DLQ.",
    )
    dlq_limit_per_minute: int = Field(
        60,
        ge=1,
        description="Maximum number of records that one process writes to the DLQ in a minute. If there would be "
        "more, the process stops: so many failures do not come from the records themselves.",
    )
    # pydantic-settings would refuse a word, because it reads each value of this type as JSON.
    ladder: Annotated[Ladder, NoDecode, BeforeValidator(_preset_or_json)] = Field(
        default_factory=Ladder,
        description='Sizes, formats and qualities of the variants, as JSON. `{"share_quality": 85}` adds a JPEG for '
        'previews of links, `{"avif_quality": 60}` an AVIF file beside each smaller WebP one. Or a word: `default`, '
        "or `fast`, which renders faster.",
    )

    # Indexer
    indexer_internal_port: int = Field(8021, ge=0, description="Port for health and metrics of the indexer.")
    indexer_concurrency: int = Field(256, ge=1, description="Records whose rows one indexer writes at the same time.")

    # Housekeeping
    sweep_delay: Duration = Field(
        timedelta(hours=1),
        description="How long superseded variants and originals are kept after a newer render is ready.",
    )

    # All services
    internal_host: str = Field("127.0.0.1", description="Interface of the internal ports. Use 0.0.0.0 in a container.")
    log_format: Literal["json", "console"] = Field(
        "json", description="Format of the log lines: `json`, or `console` for people."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Minimum log level.")
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="OTLP/HTTP collector that receives the traces, such as http://127.0.0.1:4318. Unset: no traces.",
    )

    @field_validator("cassandra_contact_points", "trusted_proxies", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(host.strip() for host in value.split(",")) if isinstance(value, str) else value

    @field_validator("public_base_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @model_validator(mode="after")
    def _credentials_are_complete(self) -> Self:
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
        """Name of a topic in Kafka."""
        return f"{self.topic_prefix}{topic.value}"

    @property
    def indexer_group(self) -> str:
        """Name of the indexer's consumer group in Kafka. Its committed positions say what the index has."""
        return f"{self.topic_prefix}imagepipe-indexer"


def read_settings(make: Callable[[], Settings] = Settings) -> Settings:
    """Read the settings from the environment, or with `make`. Raises ConfigurationError if a value is invalid.

    The message names the variables, but no values, because some are secrets.
    """
    try:
        return make()
    except ValidationError as error:
        raise ConfigurationError(f"invalid settings: {'; '.join(map(_describe, error.errors()))}") from None
    except SettingsError as error:
        raise ConfigurationError(f"invalid settings: {error}") from None


def _describe(detail: ErrorDetails) -> str:
    name = ".".join(map(str, detail["loc"])).upper()
    message = detail["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
