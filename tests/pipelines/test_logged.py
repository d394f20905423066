"""What a comparison leaves in MLflow, on a real SQLite store."""

from __future__ import annotations

import json

import pytest

from pipelines.experiments import client, saved_view
from pipelines.experiments.comparison_runs import LEAVES, cells_of, log_comparison
from pipelines.reports.page import headline, nulls
from pipelines.settings import load
from policy.names import traits
from tests.pipelines import fake_comparison as fake


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    file = root / "foredrift.toml"
    file.write_text("")
    settings = load(file)
    first = log_comparison(settings, fake.data(), "abc123", fake.frames(), fake.timeline())
    return settings, first


def policy_runs(settings, where):
    mlf = client.client(settings)
    return mlf.search_runs([where.experiment_id], "tags.kind = 'policy'", max_results=500)


@pytest.mark.slow
def test_policies_are_flat_siblings_with_the_same_metrics_steps_and_dataset(logged):
    settings, where = logged
    runs = policy_runs(settings, where)
    assert len(runs) == len(fake.data()["policies"])
    assert not any("mlflow.parentRunId" in r.data.tags for r in runs)
    assert {r.data.tags["comparison_id"] for r in runs} == {"abc123"}
    assert len({frozenset(r.data.metrics) for r in runs}) == 1
    assert len({r.inputs.dataset_inputs[0].dataset.digest for r in runs}) == 1
    mlf = client.client(settings)
    steps = {tuple(m.step for m in mlf.get_metric_history(r.info.run_id, "ts/cost_bp")) for r in runs[:4]}
    assert steps == {tuple(168 * w for w in range(fake.WEEKS))}


@pytest.mark.slow
def test_logging_twice_makes_no_second_set_of_runs(logged):
    settings, where = logged
    again = log_comparison(settings, fake.data(), "abc123", fake.frames(), fake.timeline())
    assert again.summary_run == where.summary_run
    assert len(policy_runs(settings, where)) == len(fake.data()["policies"])


@pytest.mark.slow
def test_the_summary_run_carries_tables_pictures_and_a_self_contained_page(logged):
    settings, where = logged
    mlf = client.client(settings)
    top = {f.path for f in mlf.list_artifacts(where.summary_run)}
    assert {"portfolios.parquet", "trades.parquet", "weekly.parquet", "comparison.json", "report.html", "plots"} <= top
    page = where.report.read_text()
    assert "http-equiv" not in page
    assert 'src="http' not in page
    assert "predictive" in page
    assert json.loads((where.report.parent / "comparison.json").read_text()) == fake.data()


@pytest.mark.slow
def test_every_cell_has_a_view_that_shows_its_policies_and_nothing_else(logged):
    settings, where = logged
    mlf = client.client(settings)
    tags = mlf.get_experiment(where.experiment_id).tags
    cells = cells_of(fake.data())
    keys = saved_view.keys("abc123", list(cells))
    assert keys[next(iter(cells))] == where.view
    assert len(set(keys.values())) == len(cells) == 2 * len(fake.NAVS)
    for (scenario, nav), key in keys.items():
        text = tags[saved_view.TAG + key]
        assert len(text) < 5_000, "MLflow refuses a longer tag"
        stored = json.loads(text)
        assert stored["name"].startswith(cells[scenario, nav])
        state = saved_view.decode(stored["state"])
        assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "policy"}]
        runs = mlf.search_runs([where.experiment_id], state["searchFilter"])
        policies = sorted(r.data.tags["policy"] for r in runs)
        assert policies == sorted(set(fake.POLICIES) - {"calendar_daily"}), "one run a policy: no mean over cells"
        assert not state["useGroupedValuesInCharts"], "a chart of groups has colours that no store holds"
        assert all(r.data.tags[saved_view.COLOUR] == traits(r.data.tags["policy"]).colour for r in runs)
        assert {(r.data.tags["scenario"], float(r.data.tags["nav_usd"])) for r in runs} == {(scenario, nav)}
        logged_names = set.intersection(*(set(r.data.metrics) for r in runs))
        charts = [c["metricKey"] for c in state["compareRunCharts"]]
        assert set(charts) <= logged_names
        assert charts[0] == "bp a year/total"
        assert {c["metricSectionId"] for c in state["compareRunCharts"]} <= {
            s["uuid"] for s in state["compareRunSections"] if s["display"]
        }


@pytest.mark.slow
def test_readable_figures_are_those_of_the_machine_readable_ones(logged):
    settings, where = logged
    for run in policy_runs(settings, where):
        metrics = run.data.metrics
        for short, name in saved_view.NAMED.items():
            assert metrics[name] == metrics[f"summary/{LEAVES.get(short, short)}"]


def test_a_figure_that_is_not_known_is_not_logged_under_a_readable_name():
    assert saved_view.named({"total_bp": 3, "gas_bp": None}) == {"bp a year": {"total": 3.0}}
    assert saved_view.named({}) == {}


@pytest.mark.parametrize("text", ["", "deflate", "zip;abc", "deflat;"])
def test_another_form_of_view_is_refused_and_ours_is_read_back(text):
    with pytest.raises(ValueError, match="not a stored view"):
        saved_view.decode(text)
    view = saved_view.state("abc", ("soft", 1e5))
    assert saved_view.decode(saved_view.encode(view)) == view


@pytest.mark.slow
def test_the_note_links_every_cells_view_right_after_the_result(logged):
    settings, where = logged
    text = client.client(settings).get_run(where.summary_run).data.tags["mlflow.note.content"]
    result, _, charts, *_ = text.split("\n")
    assert result == headline(fake.data())
    for cell, key in saved_view.keys("abc123", list(cells_of(fake.data()))).items():
        assert f"[{cells_of(fake.data())[cell]}](/#/experiments/{where.experiment_id}/runs?" in charts
        assert f"viewStateShareKey={key})" in charts


def test_the_headline_says_a_gain_a_loss_and_a_null_as_plainly():
    said = headline(fake.data())
    assert "9.0 % less at $100,000 soft" in said
    assert "not distinguishable from none" in said
    [row] = [r for r in nulls(fake.data()) if r["cell"] == "$100,000 hard"]
    assert "gas_band" in row["ratios"]
    worse = fake.data()
    for pair in worse["pairs"]:
        pair.update(ratio=1.2, ci_low=1.1, ci_high=1.3)
    assert "20.0 % more" in headline(worse)


def test_an_undefined_ratio_is_null_in_json_and_left_out_of_words():
    from pipelines.experiments.comparison_runs import note
    from pipelines.reports.nulls import nan_to_none
    from pipelines.reports.page import render

    data = fake.data()
    for pair in data["pairs"][:2]:
        pair.update(ratio=float("nan"), ci_low=float("nan"), ci_high=float("nan"))
    data["headroom"][0].update(captured=float("nan"))
    clean = nan_to_none(data)
    assert json.loads(json.dumps(clean, allow_nan=False))["pairs"][0]["ratio"] is None
    assert "nan" not in headline(clean) + str(nulls(clean)) + note(clean)
    assert "soft" in render(clean, "x", {})


def test_the_premium_has_a_section_of_its_own_and_says_it_is_no_skill():
    from pipelines.reports.page import render

    data = fake.data()
    row = {
        "policy": "gas_band", "scenario": "soft", "nav_usd": 1e5, "over_buy_and_hold_bp": 41.5,
        "over_growth_average_bp": 90.25, "excess_growth_bp": 101.0, "cost_bp": 17.0, "portfolios": 3,
    }  # fmt: skip
    page = render({**data, "premium": [row]}, "x", {})
    assert "<td>41.5</td>" in page
    assert "not skill" in page
    assert "not skill" not in render({k: v for k, v in data.items() if k != "premium"}, "x", {})  # an older comparison
