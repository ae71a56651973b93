"""A study as TensorBoard's event files: a run per trial, its scalars by epoch, its settings."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.exports.tables import CannotWrite
from analysis.trials import Study, Trial, known

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

ENDED = ("COMPLETE", "PRUNED", "FAIL")
METRICS = {"value": "hparam/val_accuracy", "test_accuracy": "hparam/test_accuracy"}
PLUGIN = "_hparams_/"  # how the plugin's own tags begin


def check() -> None:
    """Make sure that event files can be written.

    Raises:
        CannotWrite: TensorBoard is not installed.
    """
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError as error:
        raise CannotWrite(
            f"needs TensorBoard ({error}): pip install 'fmnist-study[tensorboard]'"
        ) from error


class EventFiles:
    """The event files of a study, which follow its trials: each epoch is written once.

    A run is named by its trial's number, variant, seed and start, so that the runs of two databases
    may share a folder, and what an earlier `run` has written is not written again.
    """

    def __init__(self, folder: Path) -> None:
        """Write below `folder / STUDY`."""
        self.folder = folder
        self.writers: dict[int, EventFileWriter] = {}
        self.epochs: dict[int, int] = {}  # the last one that was written, by trial
        self.over: set[int] = set()

    def follow(self, study: Study, trials: Sequence[Trial]) -> None:
        """Write what is new of a study's trials.

        Raises:
            OSError: the folder cannot be written.
        """
        for trial in trials:
            if trial.number in self.over or trial.state not in (*ENDED, "RUNNING"):
                continue
            if trial.number not in self.writers and not self._begin(study, trial):
                self.over.add(trial.number)
                continue
            self._write_epochs(trial)
            if trial.state in ENDED:
                self._end(trial)

    def close(self) -> None:
        """Close what is open: runs whose trials have not ended."""
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()

    def _begin(self, study: Study, trial: Trial) -> bool:
        """Open a trial's file; not if an earlier run has written it."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        place = self.folder / _plain(study.name) / _run_name(trial)
        if any(place.glob("events.out.tfevents.*")):
            return False
        self.writers[trial.number] = EventFileWriter(str(place))
        for summary in _session(trial):
            self._add(trial, summary, 0)
        return True

    def _write_epochs(self, trial: Trial) -> None:
        """Write the epochs since the last time; a trial that runs tells its accuracy only."""
        last = self.epochs.get(trial.number, 0)
        histories = {entry["epoch"]: entry for entry in trial.history}
        for epoch, accuracy in trial.intermediate.items():
            if epoch > last:
                self._add(trial, _scalar("val_accuracy", accuracy), epoch)
                self.epochs[trial.number] = epoch
        for epoch, entry in histories.items():
            for name, value in entry.items():
                if name not in ("epoch", "val_accuracy") and value is not None:
                    self._add(trial, _scalar(name, value), int(epoch))

    def _end(self, trial: Trial) -> None:
        for name, tag in METRICS.items():
            for value in known([trial], name):
                self._add(trial, _scalar(tag, value), trial.epochs)
        self._add(trial, _session_end(trial), 0)
        self.writers.pop(trial.number).close()
        self.over.add(trial.number)

    def _add(self, trial: Trial, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        took = sum(entry.get("seconds") or 0.0 for entry in trial.history[:step])
        begun = trial.started.timestamp() if trial.started else 0.0
        event = Event(wall_time=begun + took, step=step, summary=summary)
        self.writers[trial.number].add_event(event)


def _run_name(trial: Trial) -> str:
    begun = f"{trial.started:%Y%m%dT%H%M%S%f}" if trial.started else "unknown"
    seed = "" if trial.seed is None else f"_seed={trial.seed}"
    return _plain(f"{trial.number:04}_{trial.label}{seed}_{begun}")


def _plain(text: str) -> str:
    """Make a folder's name: no separator, nothing hidden, not too long."""
    return re.sub(r"[^\w=+.-]", "_", text)[:120].lstrip(".") or "_"


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _session(trial: Trial) -> list[Any]:
    """Return what the plugin for hyperparameters wants to know at the start."""
    from tensorboard.plugins.hparams.api_pb2 import (
        DATA_TYPE_BOOL,
        DATA_TYPE_FLOAT64,
        DATA_TYPE_STRING,
        Experiment,
        HParamInfo,
        MetricInfo,
        MetricName,
    )
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    settings = {**trial.params, **({} if trial.seed is None else {"seed": trial.seed})}
    if trial.test_time_flip:  # whatever the study varies: its metrics have it
        settings["test_time_flip"] = True
    start = SessionStartInfo(start_time_secs=trial.started.timestamp() if trial.started else 0.0)
    infos = []
    for name, value in settings.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value, kind = value, DATA_TYPE_BOOL
        elif isinstance(value, int | float):
            start.hparams[name].number_value, kind = float(value), DATA_TYPE_FLOAT64
        else:
            start.hparams[name].string_value, kind = str(value), DATA_TYPE_STRING
        infos.append(HParamInfo(name=name, type=kind))
    metrics = [MetricInfo(name=MetricName(tag=tag)) for tag in METRICS.values()]
    experiment = Experiment(hparam_infos=infos, metric_infos=metrics)
    return [
        _plugin("experiment", HParamsPluginData(experiment=experiment)),
        _plugin("session_start_info", HParamsPluginData(session_start_info=start)),
    ]


def _session_end(trial: Trial) -> Any:
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = STATUS_FAILURE if trial.state == "FAIL" else STATUS_SUCCESS
    ended = trial.completed.timestamp() if trial.completed else 0.0
    info = SessionEndInfo(status=status, end_time_secs=ended)
    return _plugin("session_end_info", HParamsPluginData(session_end_info=info))


def _plugin(tag: str, content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    data = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    metadata = SummaryMetadata(plugin_data=data)
    return Summary(value=[Summary.Value(tag=PLUGIN + tag, metadata=metadata)])
