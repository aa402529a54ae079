"""What our images say of themselves, as far as their recipes and what the builder is told can show; no engine is asked."""

import os
import re
import subprocess
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
IMAGES = HOUSE / "deploy" / "images"
SAID = {"title", "version", "revision", "source", "licenses"}
"""The labels of the OCI that every image of ours carries."""
DOCKER = """#!/bin/sh
case $1 in
    build) for word in "$@"; do printf '%s\\n' "$word"; done >>"$TOLD" ;;
    image) echo 1000000 ;;
esac
"""
"""Stands in for the client: it writes down what it is to build."""


def shipped(recipe: str) -> dict[str, str]:
    """The last stage, and those that a service is built to, by name."""
    stages = {
        found[1] or "": found[2]
        for found in re.finditer(r"^FROM \S+(?: AS (\S+))?\n(.*?)(?=^FROM |\Z)", recipe, re.MULTILINE | re.DOTALL)
    }
    return {name: text for name, text in stages.items() if name in {"light", "heavy", ""}}


@pytest.mark.parametrize("recipe", ["Dockerfile", "lightning.Dockerfile"])
def test_every_image_of_ours_says_what_it_is(recipe: str) -> None:
    """Its name, version, commit, where that is to be had, and on what terms."""
    stages = shipped((IMAGES / recipe).read_text())
    assert len(stages) == (2 if recipe == "Dockerfile" else 1)
    for name, text in stages.items():
        labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z]+)="([^"]+)"', text))
        assert set(labels) == SAID, name
        assert labels["title"].startswith("l402-train ")
        assert "MIT" in labels["licenses"]
        for word in ("version", "revision", "source"):
            assert labels[word] == f"${{{word.upper()}}}", name
            assert re.search(rf"^ARG {word.upper()}=", text, re.MULTILINE), f"{name}: a label of nothing"
        assert re.search("^USER 65532:65532$", text, re.MULTILINE), name


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://somebody:a-token@example.org/house/l402-train.git", "https://example.org/house/l402-train"),
        ("git@example.org:house/l402-train.git", "https://example.org/house/l402-train"),
        ("ssh://git@example.org/house/l402-train", "https://example.org/house/l402-train"),
        ("/srv/somebody/l402-train", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_builder_is_told_version_commit_and_a_source_without_secrets(
    tmp_path: Path, remote: str, source: str
) -> None:
    """Labels are read by whoever has the image: no password of a remote, no folder of the machine."""
    told = build(tmp_path, remote)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert {"SERVICE=gateway", "VERSION=9.9.9", f"REVISION={commit.stdout.strip()}", f"SOURCE={source}"} <= told
    assert not [word for word in told if "somebody" in word or "a-token" in word]


def build(place: Path, remote: str) -> set[str]:
    """The words by which tools/build-images asks for the gateway's image, in a checkout from that remote."""
    (place / "docker").write_text(DOCKER)
    (place / "docker").chmod(0o755)
    configured = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "remote.origin.url",
        "GIT_CONFIG_VALUE_0": remote,
        "PATH": f"{place}:{os.environ['PATH']}",
        "TOLD": str(place / "told"),
        "TAG": "9.9.9",
        "LOCAL": "",
    }
    subprocess.run(
        [HOUSE / "tools" / "build-images", "gateway"],
        env={**os.environ, **configured},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return set((place / "told").read_text().splitlines())
