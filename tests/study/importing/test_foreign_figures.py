"""An imported figure that is no accuracy, from its column to text, JSON, page, HiPlot and lint."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from analysis import hiplot_page
from analysis.compare import compare
from analysis.designs import results
from analysis.documents import render
from analysis.progress import progress
from analysis.progress import render as said
from analysis.report_page import build
from analysis.report_page import render as render_page
from study.cli.findings import contradicted_claims
from study.importing import read_table
from tests.support.commands import call
from tests.support.imports import imported, stored, study_of, table_of
from trainer.errors import UserError

CELLS = [(a, d) for a in ("relu", "tanh") for d in ("0.0", "0.3")]
LOSSES = "activation,dropout,seed,val_loss\n" + "".join(
    f"{a},{d},{seed},{0.3 + 0.25 * (a == 'tanh') + 0.05 * (d == '0.3') + noise:.4f}\n"
    for cell, (a, d) in enumerate(CELLS)
    for seed, noise in enumerate((0.001, 0.004, 0.002 + cell / 1000))
)


def test_a_loss_is_shown_as_it_is_and_less_of_it_is_better(tmp_path: Path) -> None:
    study, rows = stored(imported(tmp_path, LOSSES), tmp_path)
    assert study.directions == ("MINIMIZE",)
    table = results(study, rows).table
    text = render(table, "text")
    assert "accuracy" not in text
    assert "Validation loss, lower is better" in text
    tanh = next(line for line in text.splitlines() if line.lstrip().startswith("tanh"))
    assert "+0.25" in tanh
    assert tanh.endswith("worse")
    now = progress(study, rows)
    assert now.best is not None
    assert now.best.variant == "baseline"  # relu without dropout: the lowest
    assert "best so far: baseline, validation loss 0.3023" in said(now)


def test_its_json_has_the_figure_and_no_accuracy(tmp_path: Path) -> None:
    study, rows = stored(imported(tmp_path, LOSSES), tmp_path)
    record = json.loads(render(results(study, rows).table, "json"))
    assert record["figure"] == {
        "name": "validation loss", "is_accuracy": False, "unit": "", "lower_is_better": True,
    }  # fmt: skip
    assert record["baseline"]["val_accuracy_mean"] is None
    assert record["baseline"]["value_mean"] == pytest.approx(0.30233, abs=1e-4)
    verdicts = {own["level"]: own["verdict"] for own in record["effects"]}
    assert verdicts == {"tanh": "worse", 0.3: "worse"}
    # The chance that a run of tanh is better than its pair is none.
    assert record["effects"][0]["improvement"] == 0.0


def test_best_names_it_and_takes_the_lowest_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(imported(tmp_path, LOSSES), tmp_path)
    storage = ("--storage", str(tmp_path / "studies.db"))
    assert call("best", *storage) == 0
    assert "validation loss 0.3023 ± 0.001528, n = 3\n" in capsys.readouterr().out
    assert call("best", *storage, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["value_mean"] == pytest.approx(0.30233, abs=1e-4)
    assert record["val_accuracy_mean"] is None
    assert record["figure"]["lower_is_better"]
    assert record["seed"] == 0  # 0.301; the others are higher


def test_best_of_another_tools_study_is_told_by_its_objective(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "optuna.db"
    study = optuna.create_study(
        storage=f"sqlite:///{storage}", study_name="theirs", direction="minimize"
    )
    for level, value in ((0.1, 7.25), (0.2, 9.0)):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(level, level)})
        study.tell(trial, value)
    assert call("best", "theirs", "--storage", str(storage)) == 0
    assert capsys.readouterr().out == (
        "theirs: trial 0, best by objective\nobjective 7.25, n = 1\nits parameters: lr = 0.1\n"
    )


def test_a_loss_far_below_the_others_has_not_collapsed(tmp_path: Path) -> None:
    text = "optimizer,seed,val_loss\n" + "".join(
        f"{name},{seed},{0.9 if (name, seed) == ('sgd', 1) else 2.4 + seed / 100}\n"
        for name in ("adam", "sgd")
        for seed in range(5)
    )
    study, rows = stored(imported(tmp_path, text), tmp_path)
    assert "ollapsed" not in render(results(study, rows).table, "text")


def test_nobody_claims_that_test_data_of_others_chose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "lr,seed,val_acc,test_acc\n" + "".join(
        f"{lr},{seed},{0.9 + seed / 100},0.9\n" for lr in (0.1, 0.2) for seed in range(3)
    )
    study, rows = stored(imported(tmp_path, text), tmp_path)
    told = render(results(study, rows).table, "text")
    assert "Test accuracy in % (as imported: whether it chose anything is not known)" in told
    assert call("best", "--storage", str(tmp_path / "studies.db")) == 0
    assert "looked at once" not in capsys.readouterr().out


def test_page_and_hiplot_name_it(tmp_path: Path) -> None:
    study, rows = stored(imported(tmp_path, LOSSES), tmp_path)
    page = render_page(build(results(study, rows), findings=[], folder=None, hiplot=None))
    assert "activation matters most: tanh raises validation loss by 0.2" in page
    body = page[: page.index("<script")] if "<script" in page else page
    assert "validation accuracy" not in body
    assert "this is what is compared (lower is better)" in page  # provenance
    drawn = hiplot_page.experiment(study, rows)
    assert drawn.colorby == "validation loss"
    assert drawn.datapoints[0].values["validation loss"] == 0.301


def test_an_error_in_per_cent_is_told_in_points(tmp_path: Path) -> None:
    text = "model,seed,test error (%)\n" + "".join(
        f"{m},{s},{0.9 + 0.3 * (m == 'b') + s / 100}\n" for m in "ab" for s in (1, 2, 3)
    )
    study, rows = stored(imported(tmp_path, text), tmp_path)
    shown = render(results(study, rows).table, "text")
    assert "Test error in %, lower is better" in shown
    assert "in points of test error" in shown
    assert "+0.30" in shown.replace("+0.3 ", "+0.30 ") or "+0.3" in shown


def test_a_search_by_a_loss_ranks_the_lowest_first(tmp_path: Path) -> None:
    rows = "".join(
        f"{0.001 * 1.7**i:.6f},{32 * (i % 3 + 1)},{'sgd' if i % 2 else 'adam'},{0.2 + i / 100}\n"
        for i in range(12)
    )
    made = imported(tmp_path, f"lr,width,optimizer,val_loss\n{rows}")
    assert made.plan["design"] == "search"
    study, found = stored(made, tmp_path)
    record = json.loads(render(results(study, found).table, "json"))
    assert record["best"]["value_mean"] == 0.2
    assert record["best"]["candidate"] == 0
    assert record["best_so_far"]["val_accuracy"] == [0.2] * 12


def test_the_most_replicated_setting_is_not_the_best(tmp_path: Path) -> None:
    runs = [(0.1, 16, 0.5, 0.80, 6), (0.01, 32, 0.2, 0.95, 5), (0.003, 64, 0.3, 0.93, 3),
            (0.02, 16, 0.2, 0.90, 4), (0.2, 64, 0.5, 0.99, 1),
            (0.05, 32, 0.3, 0.85, 3)]  # fmt: skip
    text = "lr,width,dropout,seed,val_acc\n" + "".join(
        f"{lr},{w},{d},{s},{value + s / 1000}\n" for lr, w, d, value, n in runs for s in range(n)
    )
    study, rows = stored(imported(tmp_path, text), tmp_path)
    best = progress(study, rows).best
    assert best is not None
    assert best.n == 5
    assert best.mean == pytest.approx(0.952)  # not six runs at 0.80, not one at 0.99


def test_two_figures_are_not_subtracted(tmp_path: Path) -> None:
    losses = stored(imported(tmp_path, LOSSES, name="losses"), tmp_path)
    text = LOSSES.replace("val_loss", "val_acc")
    accuracies = stored(imported(tmp_path, text, name="accuracies"), tmp_path)
    beside = compare(*losses, *accuracies)
    assert beside.common == []
    assert "have no figure in common" in beside.notes[0]
    again = stored(imported(tmp_path, LOSSES, name="again"), tmp_path)
    alike = compare(*losses, *again)
    assert len(alike.common) == 4
    assert "in validation loss" in alike.notes[0]


# Claims and models.


def factorial(effect: float) -> str:
    """Write 24 single runs; batch norm costs `effect`, the rest is a fixed small noise."""
    rows = ["bn,dropout,pooling,bs,test_acc"]
    for number in range(24):
        bn, dropout, pooling, bs = number % 2, number // 2 % 2, number // 4 % 2, number // 8
        noise = (7 * number % 11 - 5) / 4000
        rows.append(
            f"{bn},{dropout},{('avg', 'max')[pooling]},{(32, 64, 128)[bs]},"
            f"{0.92 - effect * bn - 0.006 * pooling * dropout + noise:.5f}"
        )
    return "\n".join(rows) + "\n"


CLAIMS = """
[[claims]]
text = "batch norm has no effect"
factor = "bn"
no_effect = true

[[claims]]
text = "max pooling is better with dropout"
factor = "pooling"
better = "max"
than = "avg"
with = { dropout = 1 }

[[claims]]
text = "average pooling is best"
factor = "pooling"
best = "avg"
"""


def test_lint_contradicts_what_the_results_contradict(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(CLAIMS)
    made = study_of(table_of(factorial(0.006)), claims=path)
    study, rows = stored(made, tmp_path)
    said = [own.message for own in contradicted_claims(study, rows)]
    assert len(said) == 2
    assert "batch norm has no effect. By these results, 0 is ahead of 1 by 0.59 points" in said[0]
    assert "where dropout is 1, avg is ahead of max by 0.5" in said[1]
    none = study_of(table_of(factorial(0.0)), claims=path, name="none")
    other, runs = stored(none, tmp_path)
    assert not any("no effect" in own.message for own in contradicted_claims(other, runs))


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ('text = "a"\nfactor = "x"\nbest = 1', "claims.1.factor = 'x': choose from"),
        ('text = "a"\nfactor = "bn"\nworse = 7', "claims.1.worse = 7: choose from"),
        (
            'text = "a"\nfactor = "bn"\nthan = 1',
            "claims.1.than: belongs to better, worse or no_worse",
        ),
        ('text = "a"\nfactor = "bn"\nbest = 1\nworse = 0', "says best and worse; make a claim of"),
        ('text = "a"\nno_effect = true', "claims.1.factor: is missing"),
        ('text = "a"\nfactor = "bn"\nbest = 1\nwith = {x = 1}', "claims.1.with = 'x': choose"),
        ("x", "--claims"),
    ],
)
def test_a_claim_about_nothing_is_refused(claim: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(f"[[claims]]\n{claim}\n")
    with pytest.raises(UserError) as error:
        study_of(table_of(factorial(0.006)), claims=path)
    assert message in str(error.value)


def test_an_additive_model_has_the_power_that_all_pairs_cost(tmp_path: Path) -> None:
    smf = pytest.importorskip("statsmodels.formula.api")
    from statsmodels.stats.anova import anova_lm

    table = table_of(factorial(0.004))
    p_values: dict[Any, Any] = {}
    for model in ("additive", "additive + dropout:pooling", None):
        made = study_of(table, model=model, name=f"m{len(p_values)}")
        study, rows = stored(made, tmp_path)
        record = json.loads(render(results(study, rows).table, "json"))
        p_values[model] = {own["name"]: own["p_value"] for own in record["anova"]["terms"]}
        assert (record["model"] is None) == (model is None)
    import pandas as pd

    frame = pd.DataFrame(
        [{**row.params, "acc": row.value} for row in rows if row.value is not None]
    )
    fit = smf.ols("acc ~ C(bn) + C(dropout) + C(pooling) + C(bs)", frame).fit()
    assert p_values["additive"]["bn"] == pytest.approx(anova_lm(fit, typ=2)["PR(>F)"]["C(bn)"])
    assert "dropout × pooling" in p_values["additive + dropout:pooling"]
    assert set(p_values["additive"]) == {"bn", "dropout", "pooling", "bs"}
    with pytest.raises(UserError, match="--model pair = 'x:y': choose from"):
        study_of(table, model="additive + x:y")
    with pytest.raises(UserError, match="must be additive"):
        study_of(table, model="quadratic")
    single = tmp_path / "single.csv"
    single.write_text("lr,acc\n1,0.9\n2,0.8\n")
    with pytest.raises(UserError, match="this is no factorial"):
        study_of(read_table(single), model="additive")
