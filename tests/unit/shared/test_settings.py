"""What is invalid in the environment is named in a sentence that shows no value."""

import pytest

from shared.contract.ladder import Ladder
from shared.errors import ConfigurationError
from shared.settings import Settings, read_settings

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"KAFKA_SEND_TIMEOUT": SECRET}, "KAFKA_SEND_TIMEOUT: "),
        ({"LADDER": f'{{"{SECRET}"'}, "LADDER: neither JSON nor one of default, fast$"),
        ({"LADDER": SECRET}, "LADDER: neither JSON nor one of default, fast$"),
        ({"LADDER": f'{{"rungs": "{SECRET}"}}'}, "LADDER.RUNGS: "),
        ({"CASSANDRA_PASSWORD": SECRET}, "settings: CASSANDRA_USERNAME and CASSANDRA_PASSWORD belong together"),
        ({"LOG_LEVEL": SECRET, "RENDER_WORKERS": "0"}, "RENDER_WORKERS: .*; LOG_LEVEL: "),
    ],
    ids=["no duration", "no JSON", "another word", "another shape", "half a login", "two at once"],
)
def test_invalid_settings_are_named(variables: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read_settings(lambda: Settings(_env_file=None))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "ladder"),
    [
        ("", Ladder()),
        ("default", Ladder()),
        ("fast", Ladder(method=2)),
        ('{"method": 2, "share_quality": 85}', Ladder(method=2, share_quality=85)),
    ],
)
def test_a_ladder_is_a_word_or_json(value: str, ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER", value)
    assert read_settings(lambda: Settings(_env_file=None)).ladder == ladder
