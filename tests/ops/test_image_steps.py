"""The image's steps without a builder: where each goes, what is left out. Carried out: `make image-steps`."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from tests.house.counts import PACKAGES, ROOT
from tests.ops.image_steps import ONLY_ROOT, TRIED, context, here
from tests.ops.test_compose_file import instructions


@pytest.mark.parametrize(
    ("step", "made"),
    [
        ("python -m venv /opt/foredrift", f"{sys.executable} -m venv --without-pip F/opt/foredrift"),
        ("echo /opt/foredrifter /other/opt/foredrift", "echo /opt/foredrifter /other/opt/foredrift"),
        ("ls /build/x /srv/foredrift", "ls F/build/x F/srv/foredrift"),
    ],
)
def test_a_step_goes_below_the_folder(tmp_path, step, made):
    assert here(step, tmp_path) == made.replace("F/", f"{tmp_path}/")


def test_every_step_is_carried_out_or_left_out_for_a_reason(tmp_path):
    runs = [v for k, v in instructions() if k == "RUN"]
    left = [v for v in runs if ONLY_ROOT.search(v)]
    assert len(left) == 2
    for step in set(runs) - set(left):
        assert f"{tmp_path}/opt/foredrift" in here(step, tmp_path), step
    installs = [here(v, tmp_path) for v in runs if "pip install" in v]
    assert all(v.split()[1:4] == ["pip", "install", "--python"] for v in installs)
    assert sum("--require-hashes" in v for v in installs) == 1


def test_the_context_holds_what_is_copied_and_nothing_else(tmp_path):
    if shutil.which("git") is None or subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("no git checkout: the files of the build are not known")
    made = context(tmp_path)
    found = {p.relative_to(made).parts[0] for p in made.rglob("*") if p.is_file()}
    assert found == {"pyproject.toml", "README.md", "LICENSE", "deploy", *PACKAGES}
    assert [p.name for p in (made / "deploy").iterdir()] == ["requirements.lock"]
    copied = [w for k, v in instructions() if k == "COPY" and "--from" not in v for w in v.split()[:-1]]
    assert [w for w in copied if not (made / w).exists()] == []


@pytest.mark.parametrize("words", TRIED, ids=" ".join)
def test_what_is_tried_in_the_image_is_a_verb(words):
    assert CliRunner().invoke(app, [words[0], "--help"]).exit_code == 0
