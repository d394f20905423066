"""State for its owner only, whatever the umask is and whatever was there before."""

from __future__ import annotations

import os
import stat

import pytest

from lake.private import exposed, opener, private_folder, tighten


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_new_folders_and_files_are_for_their_owner_only(tmp_path, umask):
    folder = private_folder(tmp_path / ".foredrift" / "a" / "b")
    with open(folder / "file", "w", opener=opener) as file:
        file.write("x")
    assert [mode(p) for p in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3
    assert mode(folder / "file") == 0o600
    assert exposed(tmp_path / ".foredrift") == []


def test_an_open_state_folder_is_closed_and_the_project_s_own_is_left(tmp_path):
    state = tmp_path / ".foredrift"
    state.mkdir()
    state.chmod(0o755)
    tmp_path.chmod(0o755)
    private_folder(state / "prefect")
    assert mode(state) == 0o700
    assert mode(tmp_path) == 0o755


def test_tighten_closes_everything_below_and_follows_no_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    state = tmp_path / ".foredrift"
    (state / "deep").mkdir(parents=True)
    (state / "deep" / "db").write_text("x")
    (state / "deep" / "db").chmod(0o664)
    (state / "link").symlink_to(outside)
    assert len(exposed(state)) == 3
    assert tighten(state) == 3
    assert exposed(state) == []
    assert mode(state / "deep" / "db") == 0o600
    assert mode(outside) == 0o644
    assert tighten(tmp_path / "nowhere") == 0
