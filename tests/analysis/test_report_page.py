"""The report page: complete, offline, honest in every state of a study, whatever the names."""

import hashlib
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.designs import results
from analysis.figures.base import plain
from analysis.report_page import Report, build, embed, render, write
from analysis.trials import connect, studies, trials
from tests.support.browser import HOSTILE, Page, needs_chromium, open_page
from tests.support.studies import (
    PARETO,
    POOLING,
    SEARCH,
    ablation_trials,
    database,
    plan,
    read,
    running,
    searched,
    small_pareto,
    small_search,
    trial,
)

LEARNED = [
    {
        "epoch": epoch,
        "train_loss": 1 / epoch,
        "train_accuracy": 0.5 + 0.1 * epoch,
        "val_loss": 1.1 / epoch,
        "val_accuracy": 0.45 + 0.1 * epoch,
    }
    for epoch in (1, 2, 3)
]
CLASSES = [str(digit) for digit in range(10)]
DRAW_ALL = """(async () => {
  for (const plot of document.querySelectorAll('figure.plot')) {
    plot.scrollIntoView();
    for (let frame = 0; frame < 60 && !('drawn' in plot.dataset); frame++)
      await new Promise(requestAnimationFrame);
  }
  await new Promise((ready) => setTimeout(ready, 100));  // for what drawing may have set off
})()"""
DRAWN = "document.querySelectorAll('figure.plot[data-drawn] .main-svg').length > 0"
UNDRAWN = "document.querySelectorAll('figure.plot:not([data-drawn])').length"
PLOTS = "document.querySelectorAll('figure.plot').length"


def report(
    folder: Path,
    rows: Iterable[FrozenTrial],
    of: dict[str, Any] | None,
    *,
    findings: Sequence[Mapping[str, Any]] | None = (),
    **more: Any,
) -> Report:
    return build(results(*read(folder, rows, of, **more)), findings=findings, folder=folder)


def said(of: Report) -> dict[str, str]:
    return {answer.question: " ".join(answer.sentences) for answer in of.summary.answers} | {
        "headline": of.summary.headline
    }


def text(of: Report) -> str:
    return " ".join(said(of).values())


def mixed() -> list[FrozenTrial]:
    values = {
        "baseline": [0.90, 0.91, 0.92, 0.93, 0.90],
        "pooling=avg": [0.93, 0.945, 0.949, 0.962, 0.932],
        "batchnorm=false": [0.90, 0.92, 0.91, 0.93, 0.91],
    }
    rows = list(ablation_trials(FIVE, values))
    for row in rows:
        row.set_user_attr("history", LEARNED)
        row.set_user_attr("latency_ms", 0.3)
    return [
        *rows,
        trial(FIVE, {"pooling": "avg"}, 5, 0.7, state=TrialState.PRUNED, history=LEARNED[:1]),
        trial(FIVE, {"batchnorm": False}, 5, None, state=TrialState.FAIL, failure_reason="NaN"),
        running(FIVE, {"batchnorm": False}, 6, epoch=1),
    ]


FIVE = POOLING | {"seeds": 5}
MATRIX = [[34 if row == column else int((row + 1) % 10 == column) for column in range(10)]
          for row in range(10)]  # fmt: skip


def sections(of: Report) -> list[str]:
    return [section.id for section in of.sections]


# What is on the page


def test_an_ablation_has_every_section_and_figure(tmp_path: Path) -> None:
    page = report(tmp_path, mixed(), FIVE)
    assert sections(page) == [
        "effects", "factors", "curves", "model", "parallel", "checks", "provenance", "reading",
    ]  # fmt: skip
    assert [figure.name for figure in page.figures] == [
        "forest",
        *("trials-1-pooling", "curves-1-pooling", "trials-2-batchnorm", "curves-2-batchnorm"),
        *("all-val", "all-train", "fit-accuracy", "fit-loss", "parallel"),
    ]
    forest = page.figures[0].data
    assert {trace["name"] for trace in forest} == {"better", "not proven"}
    better = next(trace for trace in forest if trace["name"] == "better")
    assert better["x"][0] == pytest.approx(3.16, abs=0.01)
    # An interval is part of every point of the plot.
    assert all(trace["error_x"]["array"][0] > 0 for trace in forest)


def test_costs_that_differ_are_drawn_with_their_front(tmp_path: Path) -> None:
    rows = [
        trial(POOLING, {}, 0, 0.90, parameters=1000),
        trial(POOLING, {"pooling": "avg"}, 0, 0.95, parameters=2000),
        trial(POOLING, {"batchnorm": False}, 0, 0.80, parameters=3000),
    ]
    page = report(tmp_path, rows, POOLING)
    (figure,) = [one for one in page.figures if one.name == "cost-parameters"]
    others, front, baseline = figure.data
    assert (front["x"], front["y"]) == ([1000, 2000], [90, 95])
    assert (others["x"], baseline["x"]) == ([3000], [1000])


def test_every_trial_is_a_dot_and_pairs_are_joined(tmp_path: Path) -> None:
    page = report(tmp_path, mixed(), FIVE)
    (figure,) = [one for one in page.figures if one.name == "trials-1-pooling"]
    lines, *dots, means = figure.data
    assert [len(trace["x"]) for trace in dots] == [5, 5]
    assert lines["x"] == [0, 1, None] * 5
    assert lines["y"][:2] == [90, 93]
    # The bar is the interval of the paired difference, not of the mean.
    assert means["error_y"]["array"][0] is None
    assert 0 < means["error_y"]["array"][1] < 1


def test_a_search_shows_candidates_course_and_pruned_trials(tmp_path: Path) -> None:
    page = report(tmp_path, small_search(), SEARCH)
    assert sections(page) == [
        "candidates", "importance", "progress", "curves", "model", "parallel", "checks",
        "provenance", "reading",
    ]  # fmt: skip
    course = next(one for one in page.figures if one.name == "best-so-far")
    names = [trace["name"] for trace in course.data]
    assert names == ["finished", "pruned", "best finished so far"]
    every = next(one for one in page.figures if one.name == "all-val")
    ends = [trace for trace in every.data if trace.get("name") == "pruned"]
    assert len(ends) == 2
    assert {trace["marker"]["symbol"] for trace in ends} == {"x"}


def test_importance_comes_with_the_partial_dependence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        rate, width = float(10 ** rng.uniform(-4, -1)), int(rng.integers(8, 65))
        value = 0.9 - 0.05 * abs(np.log10(rate) + 2.5) + 0.001 * rng.normal()
        params = {"optimizer": "adam", "learning_rate": rate, "width": width}
        rows.append(searched(SEARCH, params, number, value))
    page = report(tmp_path, rows, SEARCH)
    dependence = [one for one in page.figures if one.name.startswith("dependence-")]
    assert dependence[0].name == "dependence-1-learning-rate"
    assert dependence[0].layout["xaxis"]["type"] == "log"
    curve = dependence[0].data[-1]
    best = curve["x"][int(np.argmax(curve["y"]))]
    assert 1e-3 < best < 1e-2
    assert "learning_rate" in said(page)["What matters most"]
    section = next(one for one in page.sections if one.id == "importance")
    (marginals,) = section.parts[-1].sheets
    assert marginals.rows[0][0].text == "learning_rate"
    assert sum(int(row[2].text) for row in marginals.rows if row[0].text == "width") == 40


def test_a_factorial_shows_interactions(tmp_path: Path) -> None:
    of = plan(
        {"pooling": ["max", "avg"], "batchnorm": [True, False]},
        {"pooling": "max", "batchnorm": True},
        design="factorial",
    )
    rng = np.random.default_rng(1)
    rows = [
        trial(of, {"pooling": pooling, "batchnorm": norm}, seed, float(value))
        for pooling in ("max", "avg")
        for norm in (True, False)
        for seed in range(4)
        for value in [0.9 - 0.05 * (pooling == "avg" and not norm) + 0.002 * rng.normal()]
    ]
    page = report(tmp_path, rows, of)
    assert sections(page)[:2] == ["effects", "variance"]
    assert "interaction-1-pooling-batchnorm" in [figure.name for figure in page.figures]
    assert "proven interaction of pooling × batchnorm" in text(page)


def test_findings_are_listed_and_their_absence_is_said(tmp_path: Path) -> None:
    finding = {"code": "single-run", "severity": "warning", "where": "plan", "message": "n = 1"}
    study, found = read(tmp_path, mixed(), FIVE)
    measured = results(study, found)

    def checks(findings: Sequence[Mapping[str, Any]] | None) -> list[str]:
        page = render(build(measured, findings=findings))
        part = page.partition('<section id="checks">')[2].partition("</section>")[0]
        return re.sub(r"<[^>]*>", " ", part).split()

    assert " ".join(checks([finding])) == "Checks of the method warning single-run plan n = 1"
    assert "No methodological mistake was found." in " ".join(checks([]))
    assert checks(None) == []


def test_the_best_models_confusion_and_mistakes_are_shown(tmp_path: Path) -> None:
    rows = [
        trial(POOLING, {}, 0, 0.90),
        trial(POOLING, {"pooling": "avg"}, 0, 0.95, confusion={"test": MATRIX},
              checkpoint="checkpoints/best.safetensors",
              weights_sha256=hashlib.sha256(b"weights").hexdigest()),
    ]  # fmt: skip
    kept = {"index": 7, "label": 3, "predicted": 8, "probability": 0.97, "pixels": "AAECAw=="}
    broken = [{**kept, "pixels": "AAE="}, {**kept, "probability": 3}, {"index": 1}, 7]
    weights = tmp_path / "checkpoints" / "best.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    weights.with_suffix(".json").write_text(
        json.dumps({"confused": [*broken, kept], "sha256": hashlib.sha256(b"weights").hexdigest()})
    )
    page = report(tmp_path, rows, POOLING)
    (section,) = [one for one in page.sections if one.id == "model"]
    matrix, mistakes = section.parts

    assert matrix.figures[0].data[0]["z"][0][1] == pytest.approx(100 / 35, abs=0.001)
    assert matrix.sentences == ["Most often mistaken: 0 for 1 (1), 1 for 2 (1) and 2 for 3 (1)."]
    (image,) = mistakes.images
    assert image.alt == "Test image 7: 3, taken for 8"
    assert image.caption == "3, taken for 8 (97 %)"
    assert image.source.startswith("data:image/png;base64,iVBORw0KGgo")


@pytest.mark.parametrize("address", ["../outside.safetensors", "/etc/passwd", "missing"])
def test_no_file_outside_the_folder_is_read(tmp_path: Path, address: str) -> None:
    kept = {"index": 7, "label": 3, "predicted": 8, "probability": 0.9, "pixels": "AAECAw=="}
    (tmp_path / "outside.json").write_text(json.dumps({"confused": [kept]}))
    folder = tmp_path / "inside"
    folder.mkdir()
    rows = [trial(POOLING, {}, 0, 0.9, confusion={"test": MATRIX}, checkpoint=address)]
    page = report(folder, rows, POOLING)
    assert not any(part.images for section in page.sections for part in section.parts)


def test_a_study_without_a_confusion_matrix_says_so(tmp_path: Path) -> None:
    for number, kept in enumerate([{}, {"test": [[1, 0], [0, 1]]}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows = [trial(POOLING, {}, 0, 0.9, confusion=kept)]
        page = report(folder, rows, POOLING)
        intro = " ".join(next(one for one in page.sections if one.id == "model").intro)
        assert ("keeps no confusion matrix" in intro) == (number != 1)


def test_provenance_tells_where_the_figures_come_from(tmp_path: Path) -> None:
    url = database(tmp_path, mixed(), of=FIVE)
    import optuna

    study = optuna.load_study(study_name="test", storage=url.render_as_string())
    for key, value in {
        "command": "fmnist-study run x",
        "versions": {"torch": "2.13"},
        "git_commit": "abc",
        "git_diff": "--- a\n+++ b\n-    rate = 1\n+    rate = 2\x1b[31m",
        "devices": ["cpu", "cpu"],
        "plan_hash": "f" * 64,
        "code": {"networks:cnn": "a" * 64},
    }.items():
        study.set_user_attr(key, value)
    source = {"name": "someone", "url": "https://example.org", "license": "MIT"}
    study.set_user_attr("plan", {**FIVE, "source": source})
    (own,) = studies(connect(url))
    found = trials(connect(url), own.id)
    page = build(results(own, found))
    (section,) = [one for one in page.sections if one.id == "provenance"]
    facts = dict(section.parts[0].facts)
    assert facts["Figures of others"] == "someone, https://example.org (licence: MIT)"
    assert facts["Command"] == "fmnist-study run x"
    assert facts["Code of the user's, SHA-256"] == f"networks:cnn {'a' * 64}"
    (changes,) = [s for s in section.parts[0].sheets if s.caption.startswith("Uncommitted")]
    lines = [row[0].text for row in changes.rows]
    assert lines[-2:] == [
        "-\xa0\xa0\xa0\xa0rate\xa0=\xa01",
        "+\xa0\xa0\xa0\xa0rate\xa0=\xa02\\x1b[31m",
    ]
    assert facts["Versions"] == "torch 2.13"
    assert facts["Devices"] == "cpu"
    assert facts["Data SHA-256"] == "0" * 64
    sheet, _ = section.parts[0].sheets
    baseline = [cell.text for cell in sheet.rows[0]]
    assert baseline[:4] == ["baseline", "5", "5", "1 min 02 s"]


def test_hiplot_is_linked_where_it_is(tmp_path: Path) -> None:
    study, found = read(tmp_path, mixed(), FIVE)
    measured = results(study, found)
    assert 'href="hiplot.html"' in render(build(measured, hiplot="hiplot.html"))
    assert "hiplot.html" not in render(build(measured))


# The summary, in every state of a study


def test_a_proven_gain_is_told_with_its_interval_and_its_cost(tmp_path: Path) -> None:
    page = said(report(tmp_path, mixed(), FIVE))
    assert page["headline"] == (
        "pooling matters most: avg gains 3.16 points of validation accuracy compared with max."
    )
    assert page["What matters most"] == "pooling: no other factor has a proven effect."
    assert re.fullmatch(
        r"pooling = avg raises validation accuracy by 3\.16 points compared with max "
        r"\(95 % interval 2\.\d\d to 3\.\d\d\)\.",
        page["By how much"],
    )
    assert "The chance of any false claim among both comparisons is about 5 %" in page["How sure"]
    assert page["What it costs"].startswith(
        "pooling=avg has the highest mean validation accuracy of all variants, 94.36 %. "
        "Compared with the baseline it has about the same parameters, training time and latency."
    )
    assert page["What was not proven"] == (
        "1 of 2 levels: chance may explain its difference, which does not mean that there is "
        "none. It is at most ±1.00 points. Without any proven effect: batchnorm."
    )
    assert page["What is missing"] == "1 trial failed: NaN. 1 trial is still running."


def test_what_was_trained_again_is_not_missing(tmp_path: Path) -> None:
    def failed(seed: int, reason: str) -> FrozenTrial:
        state = TrialState.FAIL
        return trial(FIVE, {"batchnorm": False}, seed, None, state=state, failure_reason=reason)

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    whole = [row for row in mixed() if row.state == TrialState.COMPLETE]
    page = said(report(tmp_path / "a", [failed(3, "terminated"), *whole], FIVE))
    assert page["What is missing"] == (
        "Nothing. 1 trial failed and succeeded when trained again: terminated."
    )
    page = said(report(tmp_path / "b", [failed(3, "terminated"), *mixed()], FIVE))
    assert page["What is missing"] == (
        "1 trial failed: NaN. 1 trial is still running. "
        "1 trial failed and succeeded when trained again: terminated."
    )


LATENCIES = [0.31, 0.32, 0.33, 0.5, 0.51]  # ms; now and then the machine did something else


@pytest.mark.parametrize(
    ("of_the_best", "words"),
    [
        (
            [0.31, 0.32, 0.4, 0.6, 0.64],
            "parameters and training time, and no clear difference in latency",
        ),
        ([0.31, 0.33, 0.33, 0.6, 0.64], ", training time and latency"),
        ([0.62, 0.64, 0.66, 0.7, 0.9], "2 times the latency and about the same parameters"),
        ([0.11, 0.11, 0.11, 0.11, 0.3], "0.33 times the latency and about the same parameters"),
    ],
)
def test_costs_differ_where_no_trial_lies_among_those_of_the_baseline(
    tmp_path: Path, of_the_best: list[float], words: str
) -> None:
    rows = mixed()
    for row in rows:
        if row.state == TrialState.COMPLETE and row.user_attrs["variant"] != "batchnorm=false":
            own = of_the_best if row.user_attrs["changes"] else LATENCIES
            row.set_user_attr("latency_ms", own[row.user_attrs["seed"]])
    assert words in said(report(tmp_path, rows, FIVE))["What it costs"]


def test_a_proven_loss_does_not_claim_a_gain(tmp_path: Path) -> None:
    values = {"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.80, 0.811, 0.819]}
    page = said(report(tmp_path, ablation_trials(POOLING, values), POOLING))
    assert page["headline"] == (
        "pooling matters most: avg costs 10.00 points of validation accuracy compared with max. "
        "Nothing was proven better than the baseline."
    )
    assert "lowers validation accuracy by 10.00 points" in page["By how much"]
    assert "(95 % interval 9.75 to 10.25)" in page["By how much"]
    assert page["What it costs"].startswith("The baseline has the highest mean")
    assert page["What was not proven"] == "batchnorm = false has no finished trial."
    assert page["What is missing"] == "3 trials of 9 are missing."


def test_a_gain_that_chance_may_explain_is_no_claim(tmp_path: Path) -> None:
    values = {"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.92, 0.90, 0.95]}
    page = said(report(tmp_path, ablation_trials(POOLING, values), POOLING))
    assert page["headline"] == (
        "No change was proven to matter: chance may explain every difference."
    )
    assert page["What matters most"].startswith(
        "Nothing for certain. The largest difference seen, +1.33 points for pooling = avg "
        "compared with max (95 % interval"
    )
    assert "By how much" not in page
    assert "which is not proven better than the baseline" in page["What it costs"]


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        ([], "Nothing has been run yet."),
        (
            [trial(POOLING, {}, 0, None, state=TrialState.FAIL), running(POOLING, {}, 1, epoch=1)],
            "No trial has finished yet: 1 failed and 1 running.",
        ),
        (
            list(ablation_trials(POOLING, {"baseline": [0.9]})),
            "Only the baseline has finished: there is nothing to compare it with yet. It reaches "
            "90.00 % validation accuracy, on a single seed.",
        ),
        (
            list(ablation_trials(POOLING, {"pooling=avg": [0.9, 0.9, 0.9]})),
            "Nothing can be compared yet: no two variants that belong together have finished.",
        ),
        (
            list(ablation_trials(POOLING, {"baseline": [0.9], "pooling=avg": [0.95]})),
            "Too few seeds for any claim: it takes 3, and what looks like a difference may be "
            "chance.",
        ),
        (
            list(ablation_trials(POOLING, {"baseline": [0.9] * 3, "pooling=avg": [0.9] * 3})),
            "No change made any difference at all.",
        ),
    ],
)
def test_the_headline_fits_every_state(
    tmp_path: Path, rows: list[FrozenTrial], headline: str
) -> None:
    page = report(tmp_path, rows, POOLING)
    assert page.summary.headline == headline
    assert "<title>test</title>" in render(page)


def test_a_study_that_varies_nothing_measures_the_baseline(tmp_path: Path) -> None:
    of = plan({}, {"pooling": "max"})
    page = said(report(tmp_path, [trial(of, {}, seed, 0.9) for seed in range(3)], of))
    assert page["headline"] == (
        "The study varies nothing: it measures the baseline alone. It reaches 90.00 % validation "
        "accuracy, the mean of 3 trials."
    )
    assert page["What it costs"].startswith("3 trainings took 38 s in all on cpu")


def test_a_search_tells_luck_from_gain(tmp_path: Path) -> None:
    page = said(report(tmp_path, small_search(), SEARCH))
    assert page["headline"] == (
        "The best of 5 finished candidates is #1, with 92.53 % validation accuracy, the mean of 3 "
        "trials."
    )
    assert page["By how much"].startswith(
        "#1 is 2.50 points better than the baseline, over 3 seeds"
    )
    assert "It was picked out of 7 candidates: luck alone may explain" in page["How sure"]
    assert "5 finished trials are too few to say which parameters matter." in page["How sure"]
    assert "The search spent 86 epochs. Pruning saved 14, 19 % of" not in page["What it costs"]
    assert "Pruning saved 14" in page["What it costs"]
    assert page["What is missing"].startswith("12 trials of 20 are missing.")


def test_a_search_with_single_runs_says_that_it_may_be_luck(tmp_path: Path) -> None:
    page = said(report(tmp_path, small_pareto(), PARETO, directions=["maximize", "minimize"]))
    assert "#1 ran on a single seed: it may just have been lucky." in page["How sure"]
    assert "That #1 is better than the baseline." in page["What was not proven"]


def test_a_study_of_another_tool_claims_nothing(tmp_path: Path) -> None:
    row = create_trial(
        value=123.4, params={"x": "a"}, distributions={"x": CategoricalDistribution(["a", "b"])}
    )
    page = report(tmp_path, [row, row], None)
    assert page.summary.headline == "The best is trial 0, with objective 123.4."
    assert "no difference can be judged" in text(page)
    assert "<title>test</title>" in render(page)


def test_damaged_attributes_cost_a_figure_and_not_the_page(tmp_path: Path) -> None:
    rows = list(ablation_trials(POOLING, {"baseline": [0.9, 0.91, 0.92], "pooling=avg": [0.95]}))
    rows[0].set_user_attr("history", [3, {"epoch": "x"}, {"epoch": 1, "val_accuracy": None}])
    rows[1].set_user_attr("history", [{"epoch": 10**12, "val_accuracy": 0.5}])
    rows[2].set_user_attr("confusion", {"test": "no"})
    rows[3].set_user_attr("inference", {"cpu": 3})
    render(report(tmp_path, rows, POOLING))


# The file


def test_json_inside_the_page_cannot_end_its_script() -> None:
    value = {"<": HOSTILE}
    found = embed(value)
    assert "<" not in found
    assert "&" not in found
    assert "\u2028" not in found
    assert json.loads(found) == value


def test_text_for_plotly_is_shown_as_it_is() -> None:
    assert plain("<b>&amp;\u202e", 30) == "&lt;b&gt;&amp;amp;\\u202e"
    assert plain("x" * 40, 10) == "x" * 9 + "…"


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    page = report(tmp_path, mixed(), FIVE)
    path = write(page, tmp_path / "new" / "report.html")
    assert path.stat().st_size < 6_000_000
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    html = path.read_text(encoding="utf-8")
    assert html.count("plotly.js v") == 1  # embedded once
    # No address outside the page is in an attribute that loads something.
    assert (
        re.findall(r'(?:src|href)="(?!data:image/png|#)[^"]*"', html.partition("<script>")[0]) == []
    )


def test_report_loads_neither_torch_nor_optuna(tmp_path: Path) -> None:
    database(tmp_path, mixed(), of=FIVE)
    code = (
        "import sys; from study.cli import main\n"
        "try: main(['report', '--html', '--storage', 'studies.db'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'optuna', 'hiplot', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "reports" / "test" / "report.html").exists()


# In a browser


def show(folder: Path, page: Report, **more: Any) -> Page:
    path = write(page, folder / "report.html")
    return open_page(path, folder / "page.png", ready="document.readyState == 'complete'", **more)


@needs_chromium
def test_chromium_shows_all_sections_offline_without_an_error(tmp_path: Path) -> None:
    page = report(tmp_path, mixed(), FIVE)
    found = show(tmp_path, page, ask=(DRAW_ALL, DRAWN, UNDRAWN, PLOTS))

    assert found.errors == []
    assert found.requests == []
    assert found.title == "test"
    assert found.answers[1:] == [True, 0, len(page.figures)]
    for section in page.sections:
        assert section.title in found.text
    assert "not proven" in found.text


@needs_chromium
@pytest.mark.parametrize(
    ("rows", "of", "more"),
    [
        pytest.param(small_search(), SEARCH, {}, marks=pytest.mark.slow),
        (small_pareto(), PARETO, {"directions": ["maximize", "minimize"]}),
        pytest.param([], POOLING, {}, marks=pytest.mark.slow),
        ([running(POOLING, {}, 0, epoch=0), create_trial(state=TrialState.FAIL)], None, {}),
    ],
)
def test_chromium_shows_every_kind_of_study(
    tmp_path: Path, rows: list[FrozenTrial], of: dict[str, Any] | None, more: dict[str, Any]
) -> None:
    found = show(tmp_path, report(tmp_path, rows, of, **more), ask=(DRAW_ALL, UNDRAWN))
    assert found.errors == []
    assert found.requests == []
    assert found.answers[1] == 0


@needs_chromium
@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_the_page_does_not_scroll_sideways(tmp_path: Path, width: int) -> None:
    of = plan({"augmentation": ["none", "flip+erase+translate" * 3]}, {"augmentation": "none"})
    rows = [trial(of, {}, 0, 0.9), trial(of, {"augmentation": "flip+erase+translate" * 3}, 0, 0.9)]
    overflow = "document.documentElement.scrollWidth - innerWidth"
    page = report(tmp_path, rows, of, name="a-very-long-name-of-a-study-" * 4)
    found = show(tmp_path, page, width=width, ask=(DRAW_ALL, overflow))
    assert found.answers[1] <= 0


SORT = """(() => {
  const table = document.querySelector('#effects table');
  const head = [...table.tHead.rows[0].cells].find((cell) => /difference/.test(cell.textContent));
  const read = () => [...table.tBodies].map((body) =>
    [...body.rows].map((row) => row.cells[1].textContent).join(','));
  const seen = [];
  for (let click = 0; click < 3; click++) {
    head.querySelector('button').click();
    seen.push([head.ariaSort, ...read()]);
  }
  return seen;
})()"""


@needs_chromium
def test_the_table_is_sorted_by_a_click_and_the_baseline_stays_on_top(tmp_path: Path) -> None:
    of = plan({"dropout": [0.0, 0.1, 0.5, 0.9]}, {"dropout": 0.0})
    rows = [
        trial(of, {"dropout": level} if level else {}, seed, value + seed / 1000)
        for level, value in ((0.0, 0.9), (0.1, 0.95), (0.5, 0.8), (0.9, 0.93))
        for seed in range(3)
    ]
    (found,) = show(tmp_path, report(tmp_path, rows, of), ask=(SORT,)).answers
    assert found == [
        ["ascending", "", "0.5,0.9,0.1"],
        ["descending", "", "0.1,0.9,0.5"],
        ["none", "", "0.1,0.5,0.9"],
    ]


@needs_chromium
def test_figures_wait_until_they_come_into_view_or_are_printed(tmp_path: Path) -> None:
    before = "dispatchEvent(new Event('beforeprint'))"
    found = show(tmp_path, report(tmp_path, mixed(), FIVE), ask=(UNDRAWN, before, UNDRAWN))
    waiting, _, left = found.answers
    assert waiting > 5
    assert left == 0
    assert found.errors == []


@needs_chromium
def test_hostile_names_change_nothing(tmp_path: Path) -> None:
    of = plan({HOSTILE[1]: ["max", *HOSTILE]}, {HOSTILE[1]: "max"}, description=HOSTILE[0])
    rows = [
        trial(of, {HOSTILE[1]: level} if level != "max" else {}, seed,
              0.8 + seed / 100 + place / 50, failure_reason=level, device=level,
              history=LEARNED, confusion={"test": MATRIX}, parameters=1000 + place)
        for place, level in enumerate(["max", *HOSTILE])
        for seed in range(3)
    ]  # fmt: skip
    finding = dict.fromkeys(("code", "severity", "where", "message"), HOSTILE[0])
    page = report(tmp_path, rows, of, name=HOSTILE[0], findings=[finding])
    found = show(
        tmp_path,
        page,
        ask=(
            DRAW_ALL,
            UNDRAWN,
            "window.hacked",
            "document.querySelectorAll('img[src=x], a[href^=javascript], main script:not([type])')"
            ".length",
        ),
    )
    assert found.answers[1:] == [0, None, 0]
    assert found.errors == []
    assert found.requests == []
    assert found.title == HOSTILE[0]
    for word in ("漢字", "<b>bold</b>", "{{ 7 * 7 }}", "&lt;img"):
        assert word in found.text
    assert "\u202e" not in found.text


# Size and speed


def many(folder: Path, number: int, epochs: int) -> Path:
    """Make a database of an ablation: variants with 5 seeds each, and their learning curves.

    Optuna's own storage takes minutes for so many, so the rows go straight into its tables.
    """
    levels = list(range(number // 5))
    of = plan({"width": levels}, {"width": 0}, seeds=5, epochs=epochs)
    database(folder, [], of=of)
    distribution = distribution_to_json(CategoricalDistribution(levels))
    rng = np.random.default_rng(0)
    heads, params, attributes, values, steps = [], [], [], [], []
    for index in range(number):
        level, seed = divmod(index, 5)
        curve = (0.9 - 0.5 / np.arange(1, epochs + 1) + 0.003 * rng.normal(size=epochs)).tolist()
        known = {
            "variant": f"width={level}" if level else "baseline",
            "changes": {"width": level} if level else {},
            "seed": seed,
            "config": {"width": level, "seed": seed},
            "history": [
                {"epoch": epoch, "train_loss": 0.123456, "train_accuracy": value,
                 "val_loss": 0.234567, "val_accuracy": value, "seconds": 1.234}
                for epoch, value in enumerate(curve, 1)
            ],
            "parameters": 1000 + level,
            "latency_ms": 0.1 + level,
            "seconds": 10.0,
            "test_accuracy": curve[-1],
            "confusion": {"test": MATRIX},
        }  # fmt: skip
        at = f"2026-01-02 03:{index // 60 % 60:02}:{index % 60:02}"
        heads.append((index + 1, index, 1, "COMPLETE", at, at))
        params.append((index + 1, "width", float(level), distribution))
        attributes += [(index + 1, key, json.dumps(value)) for key, value in known.items()]
        values.append((index + 1, 0, curve[-1], "FINITE"))
        steps += [(index + 1, epoch, value, "FINITE") for epoch, value in enumerate(curve, 1)]
    path = folder / "studies.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, columns, rows in (
            ("trials", "trial_id, number, study_id, state, datetime_start, datetime_complete",
             heads),
            ("trial_params", "trial_id, param_name, param_value, distribution_json", params),
            ("trial_user_attributes", "trial_id, key, value_json", attributes),
            ("trial_values", "trial_id, objective, value, value_type", values),
            ("trial_intermediate_values",
             "trial_id, step, intermediate_value, intermediate_value_type", steps),
        ):  # fmt: skip
            marks = ", ".join("?" * (columns.count(",") + 1))
            connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
    return path


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("number", "seconds", "size"), [(1_000, 10, 8e6), (10_000, 60, 1e7)])
def test_many_trials_make_a_page_in_time(
    tmp_path: Path, number: int, seconds: float, size: float
) -> None:
    url = f"sqlite:///{many(tmp_path, number, epochs=20)}"
    started = time.process_time()  # whatever else the machine does
    (study,) = studies(connect(url))
    found = trials(connect(url), study.id)
    page = build(results(study, found), findings=[], folder=tmp_path)
    path = write(page, tmp_path / "report.html")
    assert time.process_time() - started < seconds
    assert path.stat().st_size < size

    shown = open_page(
        path, tmp_path / "page.png", ready="document.readyState == 'complete'",
        ask=(DRAW_ALL, UNDRAWN),
    )  # fmt: skip
    assert shown.errors == []
    assert shown.answers[1] == 0
