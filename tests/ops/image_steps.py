"""The steps of deploy/Dockerfile in a clean folder, for machines without a builder of images: `make image-steps`.

The build context is made by .dockerignore; each COPY and RUN of the build stage is carried out with the container's
paths below the folder, pip's part by uv, which takes the same lock and the same hashes. What needs root in a container
(apt-get, a user of its own) is left out, and said. Then the verbs of the image run from there, without this checkout.

    python -m tests.ops.image_steps [--keep DIR]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.house.counts import ROOT
from tests.ops.test_compose_file import ignored, instructions

PLACES = ("/opt/foredrift", "/build", "/srv/foredrift")
ONLY_ROOT = re.compile(r"apt-get|useradd")
TRIED = (["--version"], ["init", "--sample"], ["ingest"], ["rebalance", "--live"], ["status"], ["config", "check"])


def context(folder: Path) -> Path:
    """Copy what a build would be sent, from git's files, into ``folder``; return it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in (p for p in listed if not ignored(p)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    return folder


def here(text: str, folder: Path) -> str:
    """Return ``text`` with the container's paths below ``folder``, and uv in pip's place."""
    for place in PLACES:
        text = re.sub(rf"(?<![\w/]){place}(?=[/\s]|$)", f"{folder}{place}", text)
    text = re.sub(r"^python -m venv (\S+)", rf"{sys.executable} -m venv --without-pip \1", text)
    uv = Path(sys.executable).with_name("uv")
    return re.sub(r"^(\S+/bin/python) -m pip install", rf"{uv} pip install --python \1", text)


def build(folder: Path) -> list[str]:
    """Carry out the steps below ``folder``; return what was said of each. CalledProcessError where one fails."""
    sent = context(folder / "context")
    said, at, stages = [], folder, 0
    own = ("PYTHON", "VIRTUAL_ENV", "FOREDRIFT_")  # the rest says how this machine reaches the index
    environment = {n: v for n, v in os.environ.items() if not n.startswith(own)}
    for kind, given in instructions():
        stages += kind == "FROM"
        if kind == "WORKDIR":
            at = Path(here(given, folder))
            at.mkdir(parents=True, exist_ok=True)
        elif kind == "COPY" and stages == 1:
            *sources, target = given.split()
            for source in sources:
                to = at / target if len(sources) == 1 and not target.endswith("./") else at / source
                copy = shutil.copytree if (sent / source).is_dir() else shutil.copy2
                copy(sent / source, to)
            said.append(f"COPY {given}")
        elif kind == "RUN" and ONLY_ROOT.search(given):
            said.append(f"left out, it needs root in a container: RUN {given}")
        elif kind == "RUN":
            subprocess.run(["/bin/sh", "-c", here(given, folder)], cwd=at, env=environment, check=True)
            said.append(f"RUN {given}")
    return said


def tried(folder: Path) -> dict[str, int]:
    """Run verbs of the made image in an empty project; return their exit codes."""
    project = folder / "srv" / "foredrift" / "project"
    project.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": f"{folder}/opt/foredrift/bin:/usr/bin:/bin", "HOME": str(project)}
    environment |= {"NUMBA_CACHE_DIR": str(project / ".cache"), "MLFLOW_TRACKING_URI": "", "OMP_NUM_THREADS": "1"}
    codes = {}
    for words in TRIED:
        done = subprocess.run(["foredrift", *words], cwd=project, env=environment, capture_output=True, text=True)
        codes[" ".join(words)] = done.returncode
        if done.returncode:
            print(done.stdout[-2_000:], done.stderr[-2_000:])
    return codes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        for line in build(folder):
            print(line)
        size = sum(f.stat().st_size for f in (folder / "opt").rglob("*") if f.is_file())
        print(f"/opt/foredrift is {size / 1e6:,.0f} MB")
        codes = tried(folder)
    for verb, code in codes.items():
        print(f"foredrift {verb}: exit {code}")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
