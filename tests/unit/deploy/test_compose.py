"""docker-compose.yml and .env.example: names that the settings know, no secret with a default, nothing exposed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.make_env import filled
from deploy.seaweedfs import command_line
from shared.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("gateway", "processor", "indexer", "sweep", "init")
DEV_ONLY = ("s3", "s3-config", "s3-sync", "s3-lifecycle")
SETTINGS = {name.upper() for name in Settings.model_fields}
COMPOSE_ONLY = {"COMPOSE_PROFILES", "CDN_CACHE_SIZE"}
CONTAINERS_OWN = {
    # Ports and interfaces, in the images and in what is published.
    "GATEWAY_HOST", "GATEWAY_PORT", "GATEWAY_INTERNAL_PORT", "PROCESSOR_INTERNAL_PORT", "INDEXER_INTERNAL_PORT",
    "INTERNAL_HOST",
    # The engines here are one node each, without TLS and passwords.
    "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SECURITY_PROTOCOL", "KAFKA_CA_FILE", "KAFKA_CLIENT_CERT_FILE",
    "KAFKA_CLIENT_KEY_FILE", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD",
    "TOPIC_REPLICATION_FACTOR", "TOPIC_MIN_INSYNC_REPLICAS", "CASSANDRA_CONTACT_POINTS", "CASSANDRA_PORT",
    "CASSANDRA_DATACENTER", "CASSANDRA_REPLICATION_FACTOR", "CASSANDRA_USERNAME", "CASSANDRA_PASSWORD",
    "CASSANDRA_TLS", "CASSANDRA_CA_FILE", "CASSANDRA_CHECK_HOSTNAME",
}  # fmt: skip
OF_INIT = {"S3_ADMIN_ACCESS_KEY_ID", "S3_ADMIN_SECRET_ACCESS_KEY", "S3_MANAGE_BUCKET"}
OTHER_DEFAULTS = {"S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "PUBLIC_BASE_URL"}
REFERENCE = re.compile(r"\$\{(?P<name>\w+)(?::?(?P<kind>[-?])(?P<rest>[^}]*))?\}")


@pytest.mark.parametrize("service", [*OURS, "s3-config"])
def test_every_variable_of_our_services_is_a_setting(service: str) -> None:
    assert set(SERVICES[service]["environment"]) <= SETTINGS


@pytest.mark.parametrize("service", OURS)
def test_every_setting_in_the_users_env_file_reaches_our_services(service: str) -> None:
    given = SERVICES[service]["environment"]
    expected = SETTINGS - CONTAINERS_OWN - (set() if service == "init" else OF_INIT)
    passed = {name for name, value in given.items() if f"${{{name}:" in str(value)}
    assert passed == expected


@pytest.mark.parametrize("name", ["EPOCH", "TOPIC_PREFIX", "TOPIC_PARTITIONS", "LADDER", "COMMANDS_RETENTION"])
def test_settings_named_in_runbooks_are_open_to_the_user(name: str) -> None:
    assert name not in CONTAINERS_OWN


def test_settings_that_are_not_given_have_their_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    given = {name: _resolved(value) for name, value in SERVICES["init"]["environment"].items()}
    for name in given.keys() - CONTAINERS_OWN - OTHER_DEFAULTS:
        monkeypatch.setenv(name, given[name])
    assert Settings(_env_file=None) == Settings.model_construct()


def test_every_variable_required_of_the_user_is_a_setting() -> None:
    names = {match["name"] for match in REFERENCE.finditer((ROOT / "docker-compose.yml").read_text())}
    assert names - COMPOSE_ONLY <= SETTINGS


def test_defaults_in_the_file_are_valid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in OURS:
        given = {name: _resolved(value) for name, value in SERVICES[service]["environment"].items()}
        with monkeypatch.context() as patched:
            for name, value in given.items():
                patched.setenv(name, value)
            settings = Settings(_env_file=None)
        assert settings.kafka_bootstrap_servers == "kafka:9092"
        assert settings.s3_access_key_id == "given"
        # An empty S3_ADMIN_ACCESS_KEY_ID is an unset one.
        assert settings.s3_admin_access_key_id is None


def _resolved(value: object) -> str:
    return REFERENCE.sub(lambda match: match["rest"] if match["kind"] == "-" else "given", str(value))


def test_no_secret_has_a_default() -> None:
    secret = re.compile(r"SECRET|PASSWORD|ACCESS_KEY")
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            if secret.search(name):
                reference = REFERENCE.fullmatch(str(value))
                assert reference is not None, name
                assert not reference["rest"] or reference["kind"] == "?", name


def test_the_example_holds_no_secret_and_make_env_fills_each() -> None:
    example = (ROOT / ".env.example").read_text()
    empty = re.findall(r"^(\w+)=$", example, re.MULTILINE)
    assert empty == ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_ADMIN_ACCESS_KEY_ID", "S3_ADMIN_SECRET_ACCESS_KEY"]
    first, second = filled(example), filled(example)
    for name in empty:
        values = [re.findall(rf"^{name}=(\S{{8,40}})$", text, re.MULTILINE) for text in (first, second)]
        assert len(values[0]) == len(values[1]) == 1
        assert values[0] != values[1]
    assert {line.split("=")[0] for line in example.splitlines() if re.match(r"\w+=", line)} <= SETTINGS | COMPOSE_ONLY


def test_ports_are_published_on_the_loopback_interface_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("service", [*OURS, "cdn", *DEV_ONLY])
def test_containers_of_the_services_are_hardened(service: str) -> None:
    given = SERVICES[service]
    assert given["read_only"] is True
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]


def test_the_processor_can_be_scaled() -> None:
    assert not {"container_name", "ports", "volumes"} & set(SERVICES["processor"])


@pytest.mark.parametrize("service", ["gateway", "processor", "indexer"])
def test_services_start_after_topics_tables_and_bucket(service: str) -> None:
    assert SERVICES[service]["depends_on"] == {"init": {"condition": "service_completed_successfully"}}
    port = Settings.model_fields[f"{service}_internal_port"].default
    assert SERVICES[service]["healthcheck"]["test"][-1] == str(port)


def test_s3_server_of_development_is_in_its_profile_and_no_service_depends_on_it() -> None:
    assert all(SERVICES[name]["profiles"] == ["dev"] for name in DEV_ONLY)
    for name, service in SERVICES.items():
        for needed, condition in service.get("depends_on", {}).items():
            if needed in DEV_ONLY and name not in DEV_ONLY:
                assert condition["required"] is False, name


def test_data_is_in_named_volumes_and_mounted_files_exist() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {source for source, *_ in mounts if not source.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / source).exists() for source, *_ in mounts if source.startswith("."))


def test_prometheus_scrapes_every_service_at_its_internal_port() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    found = {
        names: discovery["port"]
        for job in config["scrape_configs"]
        for discovery in job["dns_sd_configs"]
        for names in discovery["names"]
    }
    assert found == {
        name: Settings.model_fields[f"{name}_internal_port"].default for name in ("gateway", "processor", "indexer")
    }


def shell_words(service: str, key: str) -> tuple[str, ...]:
    """As the container gets them: `$$` is compose's way to write `$`."""
    return tuple(str(word).replace("$$", "$") for word in SERVICES[service][key])


def test_the_s3_server_runs_what_the_configuration_module_says() -> None:
    ports = command_line.container_ports()
    for service in ("s3", "s3-sync", "s3-lifecycle"):
        assert SERVICES[service]["image"] == f"chrislusf/seaweedfs:{command_line.VERSION}"
        assert SERVICES[service]["working_dir"] == "/var/lib/seaweedfs"
    assert shell_words("s3", "command") == command_line.container()
    assert SERVICES["s3"]["environment"]["GOMEMLIMIT"] == command_line.GO_MEMORY_LIMIT
    assert SERVICES["s3"]["ports"] == [f"127.0.0.1:{command_line.S3_PORT}:{command_line.S3_PORT}"]
    assert shell_words("s3-lifecycle", "entrypoint") == (
        "sh", "-c", command_line.daily(), command_line.lifecycle_pass(ports), "timeout", "3900", "weed",
    )  # fmt: skip
    assert shell_words("s3-lifecycle", "command") == command_line.shell(ports)
    (script,) = shell_words("s3-sync", "command")
    assert f"'{command_line.SYNC_EACH_PUT}' | weed {' '.join(command_line.shell(ports))} |" in script
    assert script.endswith(f"| grep '{command_line.SYNC_IS_SET}'\n")


def test_the_s3_servers_other_ports_are_for_its_container_and_the_engines_network() -> None:
    assert SERVICES["s3-sync"]["network_mode"] == SERVICES["s3-lifecycle"]["network_mode"] == "service:s3"
    command = SERVICES["s3"]["command"]
    assert [flag for flag in command if "bind" in flag] == ["-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"]
    assert SERVICES["s3"]["networks"] == ["engines", "s3"]
    assert COMPOSE["networks"]["engines"] == {"internal": True}
    assert [name for name, service in SERVICES.items() if "s3" in service.get("networks", ())] == ["s3"]


def test_services_write_only_after_each_put_is_synced() -> None:
    needed = SERVICES["init"]["depends_on"]
    assert needed["s3-sync"] == {"condition": "service_completed_successfully", "required": False}


def test_the_s3_servers_volume_is_one_that_it_may_write() -> None:
    image = (ROOT / "Dockerfile.processor").read_text()
    assert "COPY --from=builder --chown=10001:10001 /app/volume /var/lib/seaweedfs\n" in image
    assert SERVICES["s3-config"]["image"] == "imagepipe-processor"
    assert {service: SERVICES[service]["volumes"] for service in DEV_ONLY} == {
        service: ["seaweedfs:/var/lib/seaweedfs"] for service in DEV_ONLY
    }
    assert SERVICES["s3"]["user"] == "10001:10001"
    assert SERVICES["s3-config"]["command"] == ["python", "-m", "deploy.seaweedfs", "/var/lib/seaweedfs"]


def test_named_networks_volumes_and_services_exist() -> None:
    for service in SERVICES.values():
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)
