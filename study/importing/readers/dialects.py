"""Tables that tools write: what their columns are, by the tool's own format.

A dialect is told by headings; its patterns say the role of a column, the first that fits. What no
pattern names is told by the rules for anybody's tables, or is a note where `others` says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from study.importing.table import Table


@dataclass(frozen=True)
class Dialect:
    """How a tool writes its tables."""

    kind: str
    title: str
    required: Sequence[str]  # patterns, each of which a heading must match
    roles: Mapping[str, str]  # pattern -> role; "" leaves it to the name
    others: str = ""
    better: Mapping[str, str] | None = None
    split: Mapping[str, str] | None = None
    one_run_per_id: bool = False

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether the headings are this tool's."""
        return all(any(re.fullmatch(p, column) for column in columns) for p in self.required)

    def read(self, table: Table, title: str | None = None) -> Table:
        """Return the table with the roles that its tool gives."""
        given = {column: self._first(column, self.roles, self.others) for column in table.columns}
        return replace(
            table,
            kind=title or f"{self.title} ({table.kind})",
            roles={column: role for column, role in given.items() if role},
            better=self._all(table.columns, self.better),
            split=self._all(table.columns, self.split),
            one_run_per_id=self.one_run_per_id,
        )

    def _first(self, column: str, patterns: Mapping[str, str], others: str) -> str:
        return next((meaning for p, meaning in patterns.items() if re.fullmatch(p, column)), others)

    def _all(self, columns: Sequence[str], patterns: Mapping[str, str] | None) -> dict[str, str]:
        given = {column: self._first(column, patterns or {}, "") for column in columns}
        return {column: meaning for column, meaning in given.items() if meaning}


DIALECTS = (
    Dialect(
        "optuna", "Optuna's trials_dataframe", (r"state", r"value|values_\w+", r"params_.+"),
        {r"number|trial": "run", r"value|values_0": "objective", r"values_.+": "figure",
         r"params_(seed|random_state|fold)": "seed", r"params_.+": "setting", r"state": "state",
         r"user_attrs_.+": "", r"duration": "cost"},
        others="note", one_run_per_id=True,
    ),
    Dialect(
        "mlflow", "MLflow's search_runs", (r"run_id", r"status", r"metrics\..+"),
        {r"run_id": "run", r"status": "state", r"params\.(seed|random_state|fold)": "seed",
         r"params\..+": "setting", r"metrics\..+": "", r"step": "step"},
        others="note", one_run_per_id=True,
    ),
    Dialect(
        "wandb", "a W&B table", (r"Name", r"State", r"Created|Runtime|Sweep|_runtime"),
        {r"Name|ID|Notes|User|Tags|Created|Updated|End Time|Hostname|Description|Commit|GitHub|"
         r"GPU.*|Github|Sweep|Job Type|Group|Agent|_timestamp|_wandb\..+|_runtime|_step": "note",
         r"State": "state", r"Runtime": "cost"},
    ),
    Dialect(
        "sklearn", "scikit-learn's cv_results_", (r"mean_test_.+", r"params", r"rank_test_.+"),
        {r"mean_test_.+": "figure", r"param_(random_state|seed)": "seed", r"param_.+": "setting",
         r"n_resources": "setting",
         r"mean_fit_time": "cost"},
        others="note", better={r"mean_test_.+": "higher"}, split={r"mean_test_.+": "validation"},
    ),
    Dialect(
        "ray", "Ray Tune's results", (r"trial_id", r"training_iteration", r"config[./].+|done"),
        {r"trial_id": "run", r"training_iteration": "epoch", r"time_total_s": "cost",
         r"config[./](seed|random_state|fold)": "seed", r"config[./].+": "setting",
         r"hyperparam_.*|.*since_restore|time_this_iter_s|timestamp|date|pid|hostname|node_ip|done|"
         r"experiment_.*|should_checkpoint|checkpoint_dir_name|logdir|episodes_total|time_.*|"
         r"warmup_time|iterations_.*|timesteps_.*|experiment_tag": "note",
         r"state": "state"},
        one_run_per_id=True,
    ),
    Dialect(
        "lightning",
        "a log of epochs and steps, as Lightning writes it",
        (r"epoch", r"step", r"(train|val|test)[_/].+"),
        {},
    ),
    Dialect(
        "fmnist-study", "a table of 'fmnist-study export'",
        (r"trial", r"state", r"variant", r"val_accuracy|value"),
        {r"trial": "run", r"state": "state", r"seed": "seed",
         r"variant|candidate|checkpoint|weights_sha256|device|precision|bank|started|completed|"
         r"outcome|failure_kind|failure_reason|damage|epochs|best_value|model_bytes|"
         r"multiply_adds|test_time_flip": "note"},
        one_run_per_id=True,
    ),
    Dialect(
        "hiplot", "a HiPlot experiment", (r"uid", r"from_uid"),
        {r"uid|from_uid": "note"},
    ),
)  # fmt: skip


def by_kind(kind: str) -> Dialect:
    """Return a tool's dialect."""
    return next(dialect for dialect in DIALECTS if dialect.kind == kind)
