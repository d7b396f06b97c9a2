"""The ladder: the list of variants to render, with their sizes and qualities.

Each command contains the whole ladder. So the processor renders with the ladder of the command, and not with its own
setting LADDER.
"""

import hashlib
import json
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FULL = "full"


class Rung(BaseModel):
    """One smaller variant: at most `width` pixels wide, and at most `fraction` of the original's width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    width: int = Field(ge=1, le=16383, description="Upper bound in pixels.")
    fraction: float = Field(gt=0, lt=1, description="Upper bound as a share of the original's width.")
    quality: int = Field(ge=1, le=100, description="WebP quality.")

    def width_for(self, original_width: int) -> int:
        """Width of the variant in pixels, for an original of this width (after orientation).

        It is smaller than the original's width, except that it is at least 1.
        """
        return max(1, min(self.width, int(original_width * self.fraction)))


class Ladder(BaseModel):
    """The full-size variant and the smaller ones, largest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    full_quality: int = Field(default=82, ge=1, le=100)
    method: int = Field(default=4, ge=0, le=6, description="WebP effort: 0 fast, 6 small.")
    rungs: tuple[Rung, ...] = (
        Rung(name="large", width=1280, fraction=0.75, quality=80),
        Rung(name="medium", width=640, fraction=0.5, quality=78),
        Rung(name="small", width=320, fraction=0.25, quality=75),
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [FULL, *(rung.name for rung in self.rungs)]
        if len(set(names)) != len(names):
            raise ValueError("ladder: the names of the variants must differ, and none may be 'full'")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all variants, `full` first."""
        return (FULL, *(rung.name for rung in self.rungs))

    @property
    def digest(self) -> str:
        """Sixteen hex digits that identify the ladder in object keys. Equal ladders have equal digests."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]
