"""Which PostgreSQL the tests use, and what they say when there is none."""

import pytest

from local_aws import postgres
from local_aws.emulator import LocalAwsError


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """`installed(15, 17, on_path="16.2")`: those versions as Debian has them, and an initdb on PATH."""

    def install(*versions: int, on_path: str = "") -> None:
        monkeypatch.setattr(postgres, "DEBIAN", tmp_path / "postgresql")
        for version in versions:
            (tmp_path / f"postgresql/{version}/bin").mkdir(parents=True)
        (tmp_path / "path").mkdir()
        if on_path:
            program = tmp_path / "path/initdb"
            program.write_text(f"#!/bin/sh\necho 'initdb (PostgreSQL) {on_path}'\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "path"))

    return install


@pytest.mark.parametrize(
    ("versions", "on_path", "used"),
    [
        pytest.param([15], "", "postgresql/15/bin", id="Debian 12"),
        pytest.param([16], "", "postgresql/16/bin", id="Ubuntu 24.04"),
        pytest.param([9, 14, 18], "15.1", "postgresql/18/bin", id="the newest of several"),
        pytest.param([14], "17.2", "path", id="on PATH"),
    ],
)
def test_the_newest_is_used(installed, tmp_path, versions, on_path, used):
    installed(*versions, on_path=on_path)
    assert postgres.programs() == tmp_path / used


@pytest.mark.parametrize(
    ("versions", "on_path", "said"),
    [
        pytest.param([], "", r"^needs PostgreSQL 15 or newer, .*apt-get install postgresql\)$", id="none"),
        pytest.param([13, 14], "", "^needs PostgreSQL 15 or newer", id="too old"),
        pytest.param([], "14.9", r"initdb is initdb \(PostgreSQL\) 14.9$", id="too old on PATH"),
    ],
)
def test_one_line_says_what_to_install(installed, capsys, versions, on_path, said):
    installed(*versions, on_path=on_path)
    with pytest.raises(LocalAwsError, match=said):
        postgres.programs()
    assert postgres.main() == 1
    assert capsys.readouterr().err.count("\n") == 1
