"""The ladder: the list of variants to render, with their sizes, formats and qualities.

Each command contains the whole ladder. So the processor renders with the ladder of the command, and not with its own
setting LADDER.

A field that a release adds is left out of the JSON at its default. So the digest of a ladder that does not use it stays
the same, and nothing is rendered again.
"""

import hashlib
import json
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FULL = "full"
SHARE = "share"
Format = Literal["webp", "jpeg", "avif"]
CONTENT_TYPES: Final[dict[Format, str]] = {"webp": "image/webp", "jpeg": "image/jpeg", "avif": "image/avif"}
MAX_SIDE: Final = 16383
"""Pixels. The limit of WebP."""
SHARE_WIDTH: Final = 1200
"""Pixels. The width that Open Graph recommends for the picture of a link."""


class Rung(BaseModel):
    """One variant: at most `width` pixels wide, and at most `fraction` of the original's width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    width: int = Field(ge=1, le=MAX_SIDE, description="Upper bound in pixels.")
    fraction: float = Field(gt=0, le=1, description="Upper bound as a share of the original's width.")
    quality: int = Field(ge=1, le=100, description="Quality in the scale of the format.")
    format: Format = Field(
        default="webp",
        description="A JPEG has no transparency and one frame: it is flattened on white.",
        exclude_if=lambda value: value == "webp",
    )

    @property
    def content_type(self) -> str:
        """Type of the variant's file."""
        return CONTENT_TYPES[self.format]

    def width_for(self, original_width: int) -> int:
        """Width of the variant in pixels, for an original of this width (after orientation).

        With a fraction below 1 it is smaller than the original's width, except that it is at least 1.
        """
        return max(1, min(self.width, int(original_width * self.fraction)))


def _is_none(value: object) -> bool:
    return value is None


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
    avif_quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Also makes an AVIF file of this quality beside each WebP rung, but not beside `full`.",
        exclude_if=_is_none,
    )
    share_quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Also makes `share`, a JPEG of this quality and at most 1,200 pixels for previews of links.",
        exclude_if=_is_none,
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("ladder: the names of the variants must differ, and none may be 'full'")
        return self

    @property
    def variants(self) -> tuple[Rung, ...]:
        """All variants: `full`, the rungs, their AVIF files, and `share`."""
        full = Rung(name=FULL, width=MAX_SIDE, fraction=1, quality=self.full_quality)
        return (full, *self.rungs, *self._avif(), *self._share())

    def _avif(self) -> tuple[Rung, ...]:
        if self.avif_quality is None:
            return ()
        change = {"quality": self.avif_quality, "format": "avif"}
        return tuple(
            # Constructed anew, because the longer name must fit the pattern.
            Rung.model_validate(rung.model_dump() | change | {"name": f"{rung.name}_avif"})
            for rung in self.rungs
            if rung.format == "webp"
        )

    def _share(self) -> tuple[Rung, ...]:
        if self.share_quality is None:
            return ()
        return (Rung(name=SHARE, width=SHARE_WIDTH, fraction=1, quality=self.share_quality, format="jpeg"),)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all variants, `full` first."""
        return tuple(rung.name for rung in self.variants)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that identify the ladder in object keys. Equal ladders have equal digests."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


PRESETS: Final = {"default": Ladder(), "fast": Ladder(method=2)}
"""Ladders by the words that the setting LADDER accepts in place of JSON. docs/performance.md has the measurement of the
WebP methods that chose `fast`."""
