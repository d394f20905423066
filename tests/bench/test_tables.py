"""The tables of `make growth` and `make mirrored` are printed once, small, so that neither rots."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.bench import growth_table, mirrored_table
from tests.pipelines.market import moment, project


def test_growth_measures_every_stage(tmp_path):
    root, rows = str(tmp_path / "lake"), 50 * 24 * 60
    measured = {stage: growth_table.measure(stage, root, rows) for stage in growth_table.STAGES}
    assert [m["rows"] for m in measured.values()] == [rows, rows, 24 * 60]
    assert all(m["peak_mb"] > 0 for m in measured.values())


@pytest.mark.slow
def test_mirrored_pasts_give_a_ratio_in_every_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mirrored_table, "DEFAULT_CELLS", mirrored_table.DEFAULT_CELLS[:4:3])
    project(tmp_path)
    mirrored_table.main(str(tmp_path), moment(24 * 28), moment(0), "3", "1")
    printed = capsys.readouterr().out
    ratios = np.array([float(word) for word in re.findall(r"\d+\.\d+(?= \()", printed)])
    assert "soft" in printed
    assert "hard" in printed
    assert ratios.shape == (2 * len(mirrored_table.NAMES),)
    assert (ratios > 0).all()
