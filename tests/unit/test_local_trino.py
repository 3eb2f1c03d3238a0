"""What `make test-trino` says where Java or Maven is missing, and of a file that is not the one it wants."""

from pathlib import Path

import pytest

from local_aws import trino as local_trino
from local_aws.emulator import LocalAwsError


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """No Java, no Maven, nothing fetched."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(local_trino, "JAVAS", tmp_path / "jvm")
    monkeypatch.setattr(local_trino, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(local_trino, "HOME", tmp_path / "cache/trino")


def program(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_without_java_one_sentence_says_so(capsys):
    assert local_trino.main() == 1
    said = "local Trino: Trino 476 needs Java 24 or newer: install one, or set JAVA_HOME to it\n"
    assert capsys.readouterr().err == said


def test_the_java_that_is_new_enough_is_taken(monkeypatch, tmp_path):
    program(tmp_path / "bin/java", "echo openjdk 17.0.9 2023-10-17")
    monkeypatch.setenv("JAVA_HOME", str(Path(program(tmp_path / "old/bin/java", "echo openjdk 21 2023")).parents[1]))
    with pytest.raises(LocalAwsError, match="needs Java 24"):
        local_trino.java()
    new = program(tmp_path / "jvm/temurin-25/bin/java", "echo openjdk 25.0.1 2025-10-21 LTS")
    assert local_trino.java() == new


def test_without_maven_one_sentence_says_so(tmp_path, capsys):
    program(tmp_path / "jvm/one/bin/java", "echo openjdk 24 2025-03-18")
    assert local_trino.main() == 1
    assert "Maven fetches Trino 476: install Maven" in capsys.readouterr().err


def test_a_file_with_another_sum_is_refused_and_not_kept(tmp_path):
    program(tmp_path / "bin/mvn", "for given; do :; done; echo altered > ${given#*=}/trino-server-core-476.tar.gz")
    with pytest.raises(LocalAwsError, match=r"476.tar.gz does not have the SHA-256 sum in trino.sha256"):
        local_trino.fetch()
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_maven_says_of_a_failure_is_passed_on(tmp_path):
    program(tmp_path / "bin/mvn", "echo '[INFO] at work'; echo '[ERROR] no such artefact'; exit 1")
    with pytest.raises(
        LocalAwsError, match=r"could not fetch io.trino:trino-server-core:476:tar.gz: \[ERROR\] no such"
    ):
        local_trino.fetch()
