"""From TOML to a plan to cells; what is malformed is said in one line that names the key."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import distribution_to_json

from analysis import trials as stored
from fmnist_common.text import level_text
from study.plans.plan import Cell, Plan, Variant, check_name, load_plan
from study.plans.variants import factor_names
from study.run.opening import plan_differences
from study.run.work import pending
from study.store import location
from study.store.writer import categorical
from tests.support.plans import TINY, tiny
from trainer.datasets import DATASETS
from trainer.errors import UserError


def labels(plan: Plan) -> list[str]:
    return [variant.label for variant in plan.variants]


def from_toml(folder: Path, text: str | bytes, dataset: str | None = None) -> Plan:
    file = folder / "plan.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_plan(str(file), dataset=dataset)


def test_an_ablation_changes_one_factor_at_a_time(tmp_path: Path) -> None:
    plan = from_toml(tmp_path, TINY + "batchnorm = [true, false]\nlearning_rate = [1e-3, 3e-3]\n")

    assert labels(plan) == ["baseline", "pooling=avg", "batchnorm=false", "learning_rate=0.001"]
    assert plan.variant_count == 4
    assert plan.cells[:5] == (
        *(Cell(variant, 0) for variant in plan.variants),
        Cell(plan.variants[0], 1),
    )
    assert len(plan.cells) == 8
    config = plan.config_of(Cell(plan.variants[1], 1))
    assert (config.pooling, config.seed, config.width, config.epochs) == ("avg", 1, 4, 1)
    assert (config.dataset, config.subset, config.batchnorm) == ("digits", 200, True)


def test_a_factorial_crosses_all_levels() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False], "dropout": [0.0, 0.2, 0.5]}
    plan = tiny(design="factorial", factors=factors)

    assert plan.variant_count == len(plan.variants) == len(set(labels(plan))) == 12
    assert "baseline" in labels(plan)
    assert "batchnorm=false dropout=0.5 pooling=avg" in labels(plan)
    assert len(plan.cells) == 24


def test_a_factorial_need_not_contain_the_baseline() -> None:
    plan = tiny(design="factorial", factors={"dropout": [0.3, 0.5]})

    assert labels(plan) == ["dropout=0.3", "dropout=0.5"]
    assert plan.variant_count == 2


def test_the_baselines_level_is_run_where_the_ablation_does_not_list_it() -> None:
    plan = tiny(factors={"dropout": [0.0, 0.5]})

    assert labels(plan) == ["baseline", "dropout=0", "dropout=0.5"]
    assert plan.levels("dropout") == (0.2, 0.0, 0.5)
    assert plan.variant_count == 3


def test_a_plan_without_factors_is_the_baseline_replicated() -> None:
    for design in ("ablation", "factorial"):
        plan = tiny(design=design, factors={}, seeds=3)
        assert (labels(plan), len(plan.cells), plan.variant_count) == (["baseline"], 3, 1)


def test_labels_are_written_as_toml_writes_levels() -> None:
    changes = (("batchnorm", False), ("width", 8), ("learning_rate", 1e-05), ("pooling", "avg"))
    assert Variant(changes).label == "batchnorm=false width=8 learning_rate=1e-05 pooling=avg"
    assert Variant(()).label == "baseline"
    assert level_text(1.0) == "1"


def test_two_levels_never_share_a_label() -> None:
    plan = tiny(factors={"learning_rate": [0.00123456, 0.001234561]})
    assert len(set(labels(plan))) == 3  # six digits would make two of them one


def test_whole_numbers_are_levels_of_a_real_factor() -> None:
    plan = tiny(factors={"weight_decay": [0, 1]})
    assert plan.factors["weight_decay"] == [0.0, 1.0]
    assert labels(plan) == ["baseline", "weight_decay=1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 2},
        {"subset": 300},
        {"subset": None},
        {"dataset": "mnist"},
        {"baseline": {"width": 5, "batch_size": 32, "precision": "fp32"}},
        {"factors": {"pooling": ["avg", "max"]}},
        {"factors": {"pooling": ["max", "avg"], "batchnorm": [True, False]}},
        {"factors": {}},
        {"design": "factorial"},
    ],
)
def test_results_depend_on_the_identity(changes: dict[str, Any]) -> None:
    assert tiny(**changes).hash != tiny().hash


def test_what_results_do_not_depend_on_is_not_in_the_identity() -> None:
    assert tiny(seeds=7, name="other", description="words").hash == tiny().hash
    spelled = {"width": 4, "batch_size": 32, "precision": "fp32", "dropout": 0.2}  # the default
    assert tiny(baseline=spelled).hash == tiny().hash


def test_factors_may_be_rearranged() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False]}
    for design in ("ablation", "factorial"):
        plan = tiny(design=design, factors=factors)
        other = tiny(design=design, factors=dict(reversed(factors.items())))
        assert other.hash == plan.hash
        assert set(other.cells) == set(plan.cells)


def test_a_plan_survives_json() -> None:
    plan = tiny(factors={"learning_rate": [1e-3, 3e-4], "pooling": ["max", "avg"]}, description="ä")

    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict(), allow_nan=False)))

    assert again.hash == plan.hash
    assert again.cells == plan.cells
    assert again.to_dict() == plan.to_dict()
    assert again.to_dict()["baseline"]["dropout"] == 0.2  # in full, whatever defaults become


def test_the_published_study_can_be_gone_on_with() -> None:
    published = Path(__file__).parents[3] / "studies.db"
    engine = stored.connect(location.locate(str(published)))
    study = next(own for own in stored.studies(engine) if own.name == "reference/ablation")
    trials = stored.trials(engine, study.id)

    plan = Plan.from_dict(study.plan)

    done = [(own.variant, own.seed, own.state, own.outcome) for own in trials]
    assert pending(plan, done) == []
    assert len(pending(plan.override(seeds=plan.seeds + 1), done)) == plan.variant_count
    assert plan_differences(plan, Plan.from_dict(plan.to_dict())) == []
    fields = {name: categorical(levels) for name, levels in plan.varied.items()}
    assert {name: distribution_to_json(own) for name, own in fields.items()} == (
        trials[0].distributions
    )
    assert (
        plan_differences(
            plan, load_plan("ablation").override(epochs=plan.epochs, subset=plan.subset)
        )
        == []
    )


DATASETS_TOML = """
name = "x"
epochs = 9
[baseline]
width = 16
dropout = 0.5
[factors]
pooling = ["max", "avg"]
width = [16, 32]
[datasets.digits]
epochs = 2
subset = 100
baseline.width = 4
factors.width = [4, 8]
"""


def test_a_table_of_a_data_set_changes_budget_baseline_and_levels(tmp_path: Path) -> None:
    digits = from_toml(tmp_path, DATASETS_TOML, "digits")
    assert (digits.epochs, digits.subset, digits.dataset) == (2, 100, "digits")
    assert (digits.base_config.width, digits.base_config.dropout) == (4, 0.5)
    assert digits.factors == {"pooling": ["max", "avg"], "width": [4, 8]}

    other = from_toml(tmp_path, DATASETS_TOML, "mnist")
    assert (other.epochs, other.subset, other.base_config.width) == (9, None, 16)

    own = from_toml(tmp_path, DATASETS_TOML.replace("epochs = 9", 'dataset = "digits"'))
    assert own.epochs == 2


def test_options_override_a_plan_and_are_checked() -> None:
    plan = tiny().override(seeds=5, epochs=None, subset=50)
    assert (plan.seeds, plan.epochs, plan.subset) == (5, 1, 50)
    for key, value in {"seeds": 0, "epochs": -1, "subset": 3, "dataset": "cifar"}.items():
        with pytest.raises(UserError, match=f"^{key} = "):
            tiny().override(**{key: value})


MALFORMED = {
    'name = "x"\nname = "y"': "not TOML",
    "name = ": "not TOML",
    b'name = "\xff\xfe"': "not UTF-8",
    "name = " + "[" * 5000: "not TOML",
    'name = "x"\nseeds = ' + "9" * 5000: "not TOML",
    'name = "x"\nseeds = 0x' + "f" * 5000: "not TOML",
    "": "name: is missing",
    "name = 3": "name = 3: must be a string",
    'name = ""': "name = ''",
    'name = "../x"': "name = '../x'",
    'name = "x"\ncolour = 1': "key = 'colour': choose from name, ",
    'name = "x"\ndesign = "best"': "design = 'best': choose from ablation, factorial",
    'name = "x"\ndesign = ["ablation"]': "design = ['ablation']: must be a string",
    'name = "x"\ndataset = "cifar"': "dataset = 'cifar': choose from fashion-mnist",
    'name = "x"\ndataset = ["digits"]': "dataset = ['digits']: must be a string",
    'name = "x"\nseeds = 0': "seeds = 0: must be a whole number from 1",
    'name = "x"\nseeds = true': "seeds = True",
    'name = "x"\nseeds = 2.0': "seeds = 2.0",
    'name = "x"\nepochs = -1': "epochs = -1: must be at least 1",
    'name = "x"\nepochs = "10"': "epochs = '10': must be a whole number",
    'name = "x"\nsubset = 3': "subset = 3: must be at least 10",
    'name = "x"\nbaseline = 3': "baseline = 3: must be a table",
    'name = "x"\n[baseline]\ncolour = 1': "baseline = 'colour': choose from",
    'name = "x"\ncommand = ["a"]\n[factors]\nb = [1]': "factors.b: a training of yours is varied",
    'name = "x"\n[baseline]\nepochs = 1': "baseline = 'epochs': choose from",
    'name = "x"\n[baseline]\nwidth = 0': "baseline.width = 0: must be at least 1",
    'name = "x"\n[baseline]\ndropout = nan': "baseline.dropout = nan: must be",
    'name = "x"\n[baseline]\nwidth = 1979-05-27': "baseline.width = datetime.date",
    'name = "x"\n[[factors]]\nwidth = 1': "factors = ",
    'name = "x"\n[factors]\ncolour = [1]': "factors = 'colour': choose from",
    'name = "x"\n[factors]\nseed = [1, 2]': "factors = 'seed': choose from",
    'name = "x"\n[factors]\nwidth = 8': "factors.width = 8: must be a list",
    'name = "x"\n[factors]\nwidth = []': "factors.width: has 0 levels",
    'name = "x"\n[factors]\nwidth = [8, 8]': "factors.width: level 8 is listed twice",
    'name = "x"\n[factors]\ndropout = [0, 0.0]': "factors.dropout: level 0.0 is listed twice",
    'name = "x"\n[factors]\nwidth = [8, [9]]': "factors.width = [9]: must be a whole number",
    'name = "x"\n[factors]\npooling = ["max", "median"]': "factors.pooling = 'median': choose",
    'name = "x"\n[factors]\nlearning_rate = [inf]': "factors.learning_rate = inf: must be",
    'name = "x"\n[factors]\nlearning_rate = [-1e-3]': "factors.learning_rate = -0.001: must be",
    'name = "x"\n[factors]\naugmentation = ["erase+flip"]': "factors.augmentation = 'erase+flip'",
    f'name = "x"\n[factors]\nwidth = {list(range(1, 1500))}': "factors.width: has 1499 levels",
    f'name = "x"\nseeds = 200\n[factors]\nwidth = {list(range(1, 900))}': "has 179800 trials",
    'name = "x"\nvariants = 3': "variants = 3: must be an array of tables",
    'name = "x"\n[[variants]]\nfactor = "a"': "variants.1.level: is missing",
    'name = "x"\n[source]\nname = "y"': "source.selected_on: is missing",
    'name = "x"\n[[reported]]\nchanges = {}': "reported.1: has no figure",
    'name = "x"\n[claims]\ntext = "y"': "claims = {'text': 'y'}: must be an array of tables",
    'name = "x"\n[imported]\nfile = "y"': "study 'x': was imported; it has nothing to run",
    'name = "x"\ndatasets = 3': "datasets: must hold tables",
    'name = "x"\n[datasets]\ndigits = 3': "datasets.digits: must be a table",
    'name = "x"\n[datasets.cifar]\nepochs = 3': "datasets = 'cifar': choose from",
    'name = "x"\n[datasets.digits]\ndesign = "ablation"': "datasets.digits key = 'design'",
    'name = "x"\ndataset = "digits"\n[datasets.digits]\nfactors = 3': "factors = 3: must be",
}


@pytest.mark.parametrize(
    ("text", "message"), MALFORMED.items(), ids=[words[:40] for words in MALFORMED.values()]
)
def test_a_malformed_plan_is_refused_naming_the_key(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        from_toml(tmp_path, text)

    assert message in str(caught.value)
    assert str(caught.value).startswith(("plan /", str(tmp_path / "plan.toml")))
    assert "\n" not in str(caught.value)


def test_a_factorial_is_counted_without_being_listed() -> None:
    factors = {name: [1, 2, 3] for name in ("width", "depth", "batch_size", "patience")}
    huge = factors | {"learning_rate": [0.1 * i for i in range(1, 900)]}
    with pytest.raises(UserError, match="factors: the design has 145638 trials; at most 100000"):
        tiny(design="factorial", factors=huge)


@pytest.mark.parametrize("path", [".", "missing.toml", "x" * 300 + ".toml"])
def test_what_is_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^plan {path}: "):
        load_plan(path)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**60)
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from(["max", "avg", "none", "digits", "factorial", 1, 2, 32, 0.001, True])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
tables = st.dictionaries(
    st.sampled_from(factor_names(Plan("x").base_config)) | st.text(max_size=5),
    values | st.lists(scalars),
    max_size=4,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | values,
        "description": values,
        "design": st.sampled_from(["ablation", "factorial"]) | values,
        "dataset": st.sampled_from(list(DATASETS)) | values,
        "seeds": st.integers(1, 3) | values,
        "epochs": st.integers(1, 3) | values,
        "subset": values,
        "baseline": tables | values,
        "factors": tables | values,
        "variants": st.lists(tables, max_size=3) | values,
        "source": tables | values,
        "reported": st.lists(tables, max_size=3) | values,
        "claims": values,
        "colour": values,
    },
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(documents)
def test_any_table_makes_a_plan_or_a_user_error(document: dict[str, Any]) -> None:
    try:
        plan = Plan.from_dict(document)
    except UserError:
        return
    assert len(plan.variants) == plan.variant_count
    json.dumps(plan.to_dict(), allow_nan=False)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text() | st.binary() | st.text(alphabet='name="x[].\n1,{}datsesigr'))
def test_any_file_makes_a_plan_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    with contextlib.suppress(UserError):
        from_toml(folder, raw, "digits")


@pytest.mark.parametrize("name", ["a", "a.b", "reference/ablation", "A-1_b/c.d/e", "_x"])
def test_names_that_are_safe(name: str) -> None:
    check_name("name", name)


@pytest.mark.parametrize(
    "name",
    ["", ".a", "a/.b", "a..b", "../a", "/a", "a/", "a//b", "a b", "a\n", "a\\b", "a:b", "~", "-x"],
)
def test_names_that_could_leave_their_folder_or_their_line(name: str) -> None:
    with pytest.raises(UserError, match=r"^--study-name = "):
        check_name("--study-name", name)


DOCS = (Path(__file__).parents[3] / "docs" / "plans.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", range(4))
def test_the_documented_plans_are_valid_on_every_data_set(tmp_path: Path, number: int) -> None:
    examples = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    assert len(examples) == 4
    for dataset in DATASETS:
        assert from_toml(tmp_path, examples[number], dataset).variant_count > 1


def test_every_key_of_a_plan_is_documented(tmp_path: Path) -> None:
    tables = {
        "": "key",
        "[[variants]]": "variants.1 key",
        '[source]\nname = "x"\nselected_on = "test"\ntest_images = 1\nruns = 0': "source key",
        "[[reported]]\nchanges = {}": "reported.1 key",
        '[[claims]]\ntext = "y"': "claims.1 key",
    }
    for table, name in tables.items():
        with pytest.raises(UserError) as caught:
            from_toml(tmp_path, f'name = "x"\n{table}\n"?" = 1')
        keys = str(caught.value).partition(f"{name} = '?': choose from ")[2].split(", ")
        assert len(keys) > 2
        assert [key for key in keys if f"`{key}`" not in DOCS and f"{key} = " not in DOCS] == []


# Studies that stop when they are sure.


def test_seeds_may_be_as_many_as_it_takes() -> None:
    adaptive = Plan.from_dict({"name": "p", "seeds": "adaptive", "factors": {"width": [16, 32]}})
    assert (adaptive.seeds, adaptive.max_seeds) == (3, 20)
    again = Plan.from_dict(json.loads(json.dumps(adaptive.to_dict())))
    assert (again.seeds, again.max_seeds) == (3, 20)
    assert again.hash == adaptive.override(seeds=5).hash  # seeds are not of its identity
    assert adaptive.override(seeds=5).max_seeds is None
    assert adaptive.override(seeds="adaptive", max_seeds=8).max_seeds == 8
    most = Plan.from_dict({"name": "p", "max_seeds": 8, "factors": {"width": [16, 32]}})
    assert (most.seeds, most.max_seeds) == (3, 8)
    fixed = Plan.from_dict({"name": "p", "factors": {"width": [16, 32]}})
    assert "max_seeds" not in fixed.to_dict()
    assert "negligible" not in fixed.to_dict()
    assert fixed.override(seeds="adaptive").max_seeds == 20


def test_a_plan_file_gives_no_number_of_seeds_beside_the_most(tmp_path: Path) -> None:
    file = tmp_path / "sure.toml"
    file.write_text('name = "p"\nseeds = 5\nmax_seeds = 8\n[factors]\nwidth = [16, 32]\n')
    with pytest.raises(UserError, match="seeds = 5: with max_seeds it must be 'adaptive'"):
        load_plan(str(file))


def test_a_stored_study_keeps_how_sure_it_was_to_be() -> None:
    values = {"name": "p", "factors": {"width": [16, 32]}}
    before = Plan.from_dict({**values, "seeds": "adaptive", "max_seeds": 9, "negligible": 0.5})
    fixed = Plan.from_dict({**values, "seeds": 5}).at_least(before.to_dict())
    assert (fixed.seeds, fixed.max_seeds, fixed.negligible) == (5, 9, 0.5)
    later = Plan.from_dict({**values, "seeds": "adaptive", "max_seeds": 12, "negligible": 0.7})
    assert later.at_least(before.to_dict()).max_seeds == 12
    assert later.at_least(before.to_dict()).negligible == 0.7
    assert Plan.from_dict(values).as_sure_as(before.to_dict()).negligible == 0.5
    assert later.as_sure_as(before.to_dict()).negligible == 0.7


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"seeds": "many"}, "seeds = 'many': must be a whole number"),
        ({"seeds": "adaptive", "max_seeds": 2}, "max_seeds = 2: must be at least 3"),
        ({"seeds": "adaptive", "max_seeds": 1001}, "max_seeds = 1001"),
        ({"seeds": "adaptive", "max_seeds": True}, "max_seeds = True"),
        ({"seeds": "adaptive", "design": "factorial"}, "is for design = 'ablation'"),
        ({"negligible": 0}, "negligible = 0: must be a number of points"),
        ({"negligible": float("nan")}, "negligible = nan"),
        ({"negligible": 101}, "negligible = 101"),
        ({"negligible": "small"}, "negligible = 'small'"),
        ({"negligible": True}, "negligible = True"),
    ],
)
def test_what_is_wrong_with_sureness_is_named(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        Plan.from_dict({"name": "p", "factors": {"width": [16, 32]}, **keys})


def test_a_wrong_change_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('name = "p"\n[factors]\nwidth = [16, 32]\n')
    with pytest.raises(UserError, match=r"^epochs = -1"):
        load_plan(str(file), epochs=-1)
    file.write_text('name = "p"\nwdith = 3\n')
    with pytest.raises(UserError, match=r"p\.toml: key = 'wdith'"):
        load_plan(str(file), epochs=3)
    file.write_text('name = "p"\nepochs = 0\n')
    assert load_plan(str(file), epochs=3).epochs == 3
