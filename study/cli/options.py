"""The arguments and options that several commands have in common."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.json_output import keep_stdout


def _catalogue(begun: str) -> list[str]:
    """Complete the name of a plan."""
    from study.plans import catalog

    return [name for name in catalog.names() if name.startswith(begun)]


PlanSource = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A catalogue name, a plan file, or a stored study.",
        autocompletion=_catalogue,
    ),
]
StudyName = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", help="A stored study; left out: the one that ran last."),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        "-s",
        metavar="URL|PATH",
        help="The database; default $FMNIST_STUDY_STORAGE, else ./studies.db.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", "-j", callback=keep_stdout, help="Print JSON.")]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        metavar="NAME",
        help="fashion-mnist, digits, mnist, kmnist, folder:PATH, npz:FILE, torchvision:NAME.",
    ),
]
MovedOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", "-d", metavar="NAME", help="Where images of your own are now, if moved."
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where the data is; default ./data, or $FMNIST_STUDY_DATA_DIR."
    ),
]
SeedsOption = Annotated[int | None, typer.Option("--seeds", help="Replicate seeds per variant.")]
TrialsOption = Annotated[int | None, typer.Option("--trials", help="Trials of a search.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Epochs per trial.")]
SubsetOption = Annotated[
    int | None, typer.Option("--subset", help="Use so many images of the training set.")
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="FACTOR=LEVEL", help="Leave a level out; repeatable."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, or cuda:0,1,...")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", "-w", help="Workers; default: one per core or GPU.")
]
BankOption = Annotated[
    str, typer.Option("--bank", metavar="auto|N", help="Trials trained together in one program.")
]
ExecutorOption = Annotated[
    str, typer.Option("--executor", metavar="NAME", help="local (processes), inline, or ray.")
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT|auto",
        help="The cluster of --executor ray; left out: this machine.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODEL", help="Of a factorial: additive, or additive + a:b + ..."
    ),
]
StudyNameOption = Annotated[
    str | None, typer.Option("--study-name", help="Default: the plan's name.")
]
TimeoutOption = Annotated[
    str | None, typer.Option("--timeout", metavar="30m", help="Stop after so long: 90s, 30m, 2h.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Say what would run and how long, then stop.")
]
PathOption = Annotated[
    bool, typer.Option("--path", help="Also train the way to the best combination of levels.")
]
ReuseOption = Annotated[
    bool,
    typer.Option(
        "--reuse", help="Take over what other studies of the database have trained already."
    ),
]
ReportOption = Annotated[
    bool, typer.Option("--report", help="Write the report page too when done.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Print the whole summary and every table.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="A line for every trial as it ends.")
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format", "-f", metavar="FORMAT", help="text, markdown, csv, latex; json: as --json."
    ),
]
TensorBoardOption = Annotated[
    Path | None,
    typer.Option("--tensorboard", metavar="DIR", help="Also write TensorBoard's event files."),
]
OnEndOption = Annotated[
    str | None,
    typer.Option("--on-end", metavar="COMMAND", help="Run this when it ends, however it does."),
]
UntilSureOption = Annotated[
    bool,
    typer.Option(
        "--until-sure",
        help="3 seeds first, then more for the levels that are not decided, until all are.",
    ),
]
MaxSeedsOption = Annotated[
    int | None,
    typer.Option("--max-seeds", help="Of a level that stays undecided; with --until-sure, 20."),
]
NegligibleOption = Annotated[
    float | None,
    typer.Option(
        "--negligible", metavar="POINTS", help="A difference of accuracy that would not matter."
    ),
]
