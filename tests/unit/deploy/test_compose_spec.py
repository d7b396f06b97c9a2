"""docker-compose.yml against the JSON schema of the Compose Specification, as check-jsonschema ships it."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).parents[3]
SCHEMA = "builtin_schemas/vendor/compose-spec.json"


@pytest.fixture(scope="module")
def schema() -> Any:
    """A validator of the schema."""
    # Found and not imported: its command line needs another version of click.
    package = find_spec("check_jsonschema")
    assert package is not None
    assert package.origin is not None
    return jsonschema_rs.validator_for(json.loads((Path(package.origin).parent / SCHEMA).read_text()))


def interpolated(text: str) -> str:
    """As compose would fill it in with every required variable given and no other."""
    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda match: match[3] if match[2] == "-" else "given", text)


def test_compose_file_follows_the_specification(schema: Any) -> None:
    compose = yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text()))

    assert [f"{error.instance_path}: {error.message}" for error in schema.iter_errors(compose)] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("read_only: true", "read_onyl: true"),
        ("kafka: {condition: service_healthy}", "kafka: {condition: service_helthy}"),
        ("profiles: [dev]", "profiles: dev"),
    ],
)
def test_schema_of_the_specification_finds_mistakes(schema: Any, right: str, wrong: str) -> None:
    text = interpolated((ROOT / "docker-compose.yml").read_text())
    assert right in text

    assert not schema.is_valid(yaml.safe_load(text.replace(right, wrong)))
