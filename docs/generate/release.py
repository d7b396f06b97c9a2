"""Makes the release of the version in pyproject.toml: `make release`.

1. Refuse a contract that breaks readers of the last release, in a sentence for each change.
2. Write the contract of this release to docs/events/released/VERSION, and the section of CHANGELOG.md. Nothing else
   writes there. If this version was released before, its contract must be the same.
3. Build the wheels, the list of their dependencies (an SBOM in CycloneDX 1.5), and checksums into dist/.

It makes no commit and no tag.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from docs.generate.compatibility import breaking_changes
from docs.generate.events import TARGET, pages

ROOT = Path(__file__).parents[2]
RELEASED = TARGET / "released"
DIST = ROOT / "dist"
UV = ROOT / ".uv" / "bin" / "uv"
SUMS = "SHA256SUMS"
SBOM = "imagepipe-{version}.cdx.json"
UNRELEASED = "## Unreleased\n"


class ReleaseError(Exception):
    """The release cannot be made. The text says why, and what to do."""


def released_versions(folder: Path = RELEASED) -> list[str]:
    """The releases, the oldest first."""
    found = (path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else ()
    return sorted(found, key=lambda version: tuple(map(int, version.split("."))))


def contract_of(version: str, folder: Path = RELEASED) -> dict[str, bytes]:
    """The published files of a release, by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / version).glob("*.json"))}


def write_contract(version: str, folder: Path = RELEASED) -> None:
    """Write the contract of this release. Raises ReleaseError."""
    now = pages()
    if version in released_versions(folder):
        if contract_of(version, folder) != now:
            raise ReleaseError(
                f"{version} is released, and the contract has changed since: raise the version in pyproject.toml"
            )
        return
    for last in released_versions(folder)[-1:]:
        if changes := breaking_changes(contract_of(last, folder), now):
            raise ReleaseError("\n".join([f"This breaks readers of {last}:", *changes]))
    target = folder / version
    target.mkdir(parents=True)
    for name, content in now.items():
        (target / name).write_bytes(content)
    (target / SUMS).write_text(checksums(now))


def checksums(files: Mapping[str, bytes]) -> str:
    """The lines that `sha256sum --check` reads."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))


def with_section(changelog: str, version: str, day: date) -> str:
    """The changelog with the unreleased lines under this version. Raises ReleaseError if there are none."""
    if f"\n## {version} " in changelog:
        return changelog
    before, found, after = changelog.partition(UNRELEASED)
    if not found or not after.partition("\n## ")[0].strip():
        raise ReleaseError(f"CHANGELOG.md has nothing under `{UNRELEASED.strip()}`: say what the release changes")
    return f"{before}{UNRELEASED}\n## {version} - {day.isoformat()}\n{after}"


def build(version: str) -> None:
    """Write wheels, SBOM and checksums to an empty dist/."""
    shutil.rmtree(DIST, ignore_errors=True)
    _uv("build", "--all-packages", "--wheel", "--out-dir", str(DIST))
    sbom = DIST / SBOM.format(version=version)
    _uv("export", "--quiet", "--locked", "--no-dev", "--no-default-groups", "--format", "cyclonedx1.5",
        "--output-file", str(sbom))  # fmt: skip
    # uv marks the folder as one to ignore.
    (DIST / ".gitignore").unlink(missing_ok=True)
    (DIST / SUMS).write_text(checksums({path.name: path.read_bytes() for path in DIST.iterdir()}))


def _uv(*arguments: str) -> None:
    if subprocess.run([UV, *arguments], cwd=ROOT, check=False).returncode:
        raise ReleaseError(f"`uv {arguments[0]}` failed")


def main() -> None:
    """Make the release, and say what is left to do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = ROOT / "CHANGELOG.md"
    try:
        section = with_section(changelog.read_text(), version, datetime.now(UTC).date())
        write_contract(version)
        changelog.write_text(section)
        build(version)
    except ReleaseError as error:
        sys.exit(f"✗ {error}")
    print(f"{version}: {', '.join(sorted(path.name for path in DIST.iterdir()))}")
    print(f"Commit docs/events/released/{version} and CHANGELOG.md, run the tests, and tag the commit v{version}.")


if __name__ == "__main__":
    main()
