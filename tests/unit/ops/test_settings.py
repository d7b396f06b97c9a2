"""The settings of a command are those of the local stack under `--root`, before those of the environment."""

from pathlib import Path

import pytest

from deploy.local.state import Root
from ops.settings import load_settings
from shared.errors import ConfigurationError


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.at(tmp_path)


def test_stack_overrides_the_environment_with_the_values_that_were_written(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_BUCKET", "from-the-environment")
    monkeypatch.setenv("TOPIC_PREFIX", "kept.")
    secret = "it's ${HOME} `id` \\"
    keys = {"S3_ACCESS_KEY_ID": "services", "S3_SECRET_ACCESS_KEY": secret}
    root.write_env({"S3_BUCKET": "of-the-stack", "TOPIC_PARTITIONS": "3", **keys})
    settings = load_settings(root.path)
    assert (settings.s3_bucket, settings.topic_prefix, settings.topic_partitions) == ("of-the-stack", "kept.", 3)
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == secret


@pytest.mark.parametrize("content", ["S3_BUCKET='open", "TOPIC_PARTITIONS=many"])
def test_damaged_file_is_a_configuration_error(root: Root, content: str) -> None:
    root.env_file.write_text(content)
    with pytest.raises(ConfigurationError):
        load_settings(root.path)


def test_missing_stack_is_a_configuration_error(root: Root) -> None:
    with pytest.raises(ConfigurationError, match="imagepipe up"):
        load_settings(root.path)
