"""Every setting of every service, read from the environment (or a `.env` file) in one typed class.

Services turn these into arguments at start-up; nothing below `main()` reads the environment.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.ladder import Ladder

MIB = 1024 * 1024


class Topic(StrEnum):
    """Logical names of the topics; physical names are `Settings.topic_prefix` + this."""

    COMMANDS = "images.commands"
    EVENTS = "images.events"
    DLQ = "images.commands.dlq"


class Settings(BaseSettings):
    """All settings. Each field's name in upper case is its environment variable."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    # Kafka
    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Brokers, comma-separated host:port.")
    topic_prefix: str = Field("", description="Put before each topic's name; lets several stacks share a cluster.")
    topic_partitions: int = Field(
        8, ge=1, description="Partitions of each topic. Fixed for ever: another count means a new epoch."
    )
    topic_replication_factor: int = Field(1, ge=1, description="Replicas of each topic; 3 in production.")
    topic_min_insync_replicas: int = Field(1, ge=1, description="2 in production, so that an ack survives a broker.")
    commands_retention: timedelta = Field(timedelta(days=30), description="How long commands and DLQ are kept.")
    epoch: int = Field(
        1,
        ge=1,
        lt=2048,
        description="High bits of each version; raised when the commands topic is recreated or mirrored.",
    )
    kafka_send_timeout: timedelta = Field(
        timedelta(seconds=15),
        description="After this a write's outcome is unknown: 503. A leader election took up to 11 s.",
    )
    kafka_session_timeout: timedelta = Field(
        timedelta(seconds=10), description="A killed consumer's partitions move after this."
    )

    # S3
    s3_endpoint_url: str | None = Field(None, description="Where the services reach the bucket; unset: AWS.")
    s3_public_endpoint_url: str | None = Field(None, description="Where clients with temporary keys reach it.")
    s3_region: str = "us-east-1"
    s3_bucket: str = "imagepipe"
    s3_access_key_id: str | None = Field(None, description="Unset: the usual AWS credential chain.")
    s3_secret_access_key: SecretStr | None = None
    s3_addressing_style: Literal["path", "virtual", "auto"] = "path"
    s3_checksums: Literal["when_required", "when_supported"] = Field(
        "when_required", description="Many S3-compatible stores reject the newer trailing checksums."
    )
    s3_threads: int = Field(16, ge=1, description="Concurrent S3 calls of one process.")
    tombstone_retention: timedelta = Field(
        timedelta(days=70), description="How long a deletion is remembered: longer than commands and DLQ together."
    )

    # Cassandra
    cassandra_contact_points: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1",), description="Comma-separated hosts."
    )
    cassandra_port: int = 9042
    cassandra_keyspace: str = Field("imagepipe", pattern=r"^[a-z][a-z0-9_]{0,47}$")
    cassandra_datacenter: str = "datacenter1"
    cassandra_replication_factor: int = Field(1, ge=1, description="3 in production.")
    cassandra_username: str | None = None
    cassandra_password: SecretStr | None = None
    cassandra_timeout: timedelta = timedelta(seconds=5)
    day_shards: int = Field(4, ge=1, le=64, description="Partitions per day of the global list. Fixed for ever.")

    # Gateway
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(8000, ge=0)
    gateway_internal_port: int = Field(8001, ge=0, description="Health and metrics; never exposed to clients.")
    public_base_url: str = Field("http://127.0.0.1:8000", description="What clients see; every URL is built on it.")
    max_upload_bytes: int = Field(5 * MIB, ge=1, description="Per file; exactly this many bytes are still accepted.")
    max_pixels: int = Field(64_000_000, ge=1, description="More is refused at once (422).")
    max_side: int = Field(16383, ge=1, le=16383, description="WebP's limit in pixels.")
    max_files_per_request: int = Field(20, ge=1)
    max_concurrent_uploads: int = Field(32, ge=1, description="Beyond it: 429 with Retry-After.")
    list_cache_ttl: timedelta = Field(timedelta(seconds=1), description="How long a list or row may be served stale.")
    media_max_age: timedelta = Field(timedelta(days=1), description="How long a CDN keeps media.")
    public_originals: bool = Field(True, description="False: `original` is not served to the public, only variants.")

    # Processor
    processor_internal_port: int = Field(8011, ge=0)
    render_workers: int = Field(2, ge=1, description="Processes that decode and encode.")
    render_timeout: timedelta = Field(timedelta(seconds=60), description="Per image and attempt.")
    max_inflight_images: int = Field(16, ge=1, description="Admitted commands per worker.")
    max_inflight_bytes: int = Field(64 * MIB, ge=1)
    max_inflight_pixels: int = Field(128_000_000, ge=1, description="Decoded; one image above it runs alone.")
    max_frames: int = Field(120, ge=1, description="A longer animation becomes its first frame.")
    max_animation_pixels: int = Field(64_000_000, ge=1, description="Frames times area; beyond: first frame.")
    outage_patience: timedelta = Field(
        timedelta(seconds=20), description="An engine away for longer: the process exits unacked for its supervisor."
    )
    unforeseen_attempts: int = Field(3, ge=1, description="Tries before a surprise goes to the DLQ.")
    dlq_limit_per_minute: int = Field(60, ge=1, description="More surprises than this stop the process instead.")
    ladder: Ladder = Field(default_factory=Ladder, description="JSON; sizes and qualities of the variants.")

    # Indexer
    indexer_internal_port: int = Field(8021, ge=0)
    indexer_concurrency: int = Field(64, ge=1, description="Cassandra writes in flight.")

    # Housekeeping
    sweep_delay: timedelta = Field(timedelta(hours=1), description="A superseded render lives this long on.")

    internal_host: str = Field("127.0.0.1", description="Interface of the internal ports; 0.0.0.0 in a container.")
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("cassandra_contact_points", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return tuple(host.strip() for host in value.split(",")) if isinstance(value, str) else value

    @field_validator("public_base_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")

    def topic(self, topic: Topic) -> str:
        """Physical name of a topic."""
        return f"{self.topic_prefix}{topic.value}"
