"""Which deployment a command works on: the one in the environment, or the local stack under `--root`."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from shared.errors import ConfigurationError
from shared.settings import Settings

Root = Annotated[
    Path | None,
    typer.Option(
        "--root", help="Directory of a local stack; its `env` file wins over the environment.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document (or a line per record) on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan with its counts and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Go ahead without asking; for scripts.")]


class _StackSettings(Settings):
    """Settings of a local stack: what its file says wins, as it does for the services that the stack starts."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, dotenv_settings, env_settings, file_secret_settings


def load_settings(root: Path | None) -> Settings:
    """Settings of the deployment. Raises ConfigurationError where there is no stack, or a value is wrong."""
    try:
        if root is None:
            return Settings()
        file = root / "env"
        if not file.is_file():
            raise ConfigurationError(f"{root} holds no local stack: run `imagepipe up --root {root}` first")
        return _StackSettings(_env_file=file)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors())
        raise ConfigurationError(f"the settings are wrong: {wrong}") from error
