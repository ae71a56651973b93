"""What the name of a column says: tables of words, their meaning, and who writes them.

Names are compared as words, without case and punctuation: `Val Acc (%)`, `val/acc`, `valAcc`.
A name that is not in a table says nothing; then its cells decide, or the user (`reading.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from study.plans.names import squeeze
from trainer.config import FIELD_NAMES

ROLES = ("setting", "seed", "run", "state", "epoch", "step", "figure", "cost", "identity", "note")

HIGHER, LOWER = "higher", "lower"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


@dataclass(frozen=True)
class Metric:
    """A kind of figure."""

    name: str  # as tables show it
    words: str  # the names that it has, squeezed, separated by spaces
    better: str | None  # HIGHER or LOWER; None: it depends
    share: bool  # a part of 1, or of 100 %
    source: str  # who writes it


MEASURES = (
    Metric(
        "accuracy",
        "accuracy acc top1 top1accuracy top1acc acc1 acctop1 accuracytop1 prec1 "
        "categoricalaccuracy sparsecategoricalaccuracy binaryaccuracy multiclassaccuracy",
        HIGHER, True, "Keras, torchmetrics, timm, Ray Tune",
    ),
    Metric("balanced accuracy", "balancedaccuracy balancedacc bacc", HIGHER, True, "scikit-learn"),
    Metric("top-5 accuracy", "top5 top5accuracy top5acc acc5 acctop5 accuracytop5 prec5",
            HIGHER, True, "timm, YOLO"),
    Metric("error", "error err errorrate top1error top1err err1 errorrates misclassification "
            "misclassificationrate zerooneloss", LOWER, True, "papers"),
    Metric("top-5 error", "top5error top5err err5", LOWER, True, "papers"),
    Metric("F1", "f1 f1score fscore fmeasure fbeta", HIGHER, True, "scikit-learn"),
    Metric("precision", "precision prec", HIGHER, True, "scikit-learn, YOLO"),
    Metric("recall", "recall sensitivity truepositiverate tpr", HIGHER, True, "scikit-learn"),
    Metric("specificity", "specificity", HIGHER, True, "medicine"),
    Metric("AUC", "auc auroc rocauc aucroc aurocscore prauc aucpr auprc", HIGHER, True,
            "scikit-learn, Keras"),
    Metric("average precision", "ap averageprecision map meanaverageprecision map50 map5095 "
            "map75", HIGHER, True, "COCO, YOLO"),
    Metric("IoU", "iou miou meaniou jaccard jaccardindex", HIGHER, True, "segmentation"),
    Metric("Dice", "dice dicescore dicecoef dicecoefficient", HIGHER, True, "segmentation"),
    Metric("kappa", "kappa cohenkappa cohenskappa quadraticweightedkappa qwk", HIGHER, False,
            "scikit-learn"),
    Metric("MCC", "mcc matthewscorrcoef matthewscorrelationcoefficient", HIGHER, False,
            "scikit-learn"),
    Metric("R²", "r2 r2score rsquared", HIGHER, False, "regression"),
    Metric("correlation", "pearson pearsonr spearman spearmanr pearsoncorr spearmancorr",
            HIGHER, False, "regression, GLUE"),
    Metric("exact match", "em exactmatch", HIGHER, True, "SQuAD"),
    Metric("BLEU", "bleu bleu4 sacrebleu", HIGHER, False, "translation"),
    Metric("ROUGE", "rouge rouge1 rouge2 rougel", HIGHER, False, "summaries"),
    Metric("NDCG", "ndcg ndcg5 ndcg10 mrr hitrate", HIGHER, True, "ranking"),
    Metric("PSNR", "psnr", HIGHER, False, "images"),
    Metric("SSIM", "ssim msssim", HIGHER, False, "images"),
    Metric("inception score", "inceptionscore", HIGHER, False, "images"),
    Metric("reward", "reward return episodereward episodereturn episoderewardmean meanreward "
            "episodereturnmean eprewmean", HIGHER, False, "RL libraries"),
    Metric("log likelihood", "loglikelihood elbo", HIGHER, False, "density models"),
    Metric("loss", "loss nll nllloss crossentropy crossentropyloss xent celoss logloss bce "
            "bceloss objectiveloss negativeloglikelihood", LOWER, False, "every framework"),
    Metric("perplexity", "perplexity ppl", LOWER, False, "language models"),
    Metric("bits per character", "bpc bpd bitsperdim bitsperbyte bpb", LOWER, False,
            "language models"),
    Metric("CER", "cer charactererrorrate", LOWER, True, "speech, OCR"),
    Metric("WER", "wer worderrorrate", LOWER, True, "speech"),
    Metric("PER", "phonemeerrorrate", LOWER, True, "speech"),
    Metric("EER", "eer equalerrorrate", LOWER, True, "verification"),
    Metric("mean squared error", "mse meansquarederror l2error", LOWER, False, "regression"),
    Metric("root mean squared error", "rmse rootmeansquarederror rmsle", LOWER, False,
            "regression"),
    Metric("mean absolute error", "mae meanabsoluteerror l1error meanabserror", LOWER, False,
            "regression"),
    Metric("mean absolute percentage error", "mape smape", LOWER, False, "regression"),
    Metric("calibration error", "ece expectedcalibrationerror mce", LOWER, True, "calibration"),
    Metric("Brier score", "brier brierscore brierloss", LOWER, False, "scikit-learn"),
    Metric("FID", "fid frechetinceptiondistance kid", LOWER, False, "images"),
    Metric("LPIPS", "lpips", LOWER, False, "images"),
    Metric("KL divergence", "kl kldiv kldivergence", LOWER, False, "density models"),
    Metric("regret", "regret", LOWER, False, "optimisers"),
    Metric("score", "score", None, False, "scikit-learn, Keras Tuner: a metric of its own"),
    Metric("value", "value objective objectivevalue values", None, False,
            "Optuna: the objective, without its name"),
)  # fmt: skip


@dataclass(frozen=True)
class Word:
    """Names with one meaning that is no figure."""

    role: str
    words: str
    meaning: str
    key: str = ""  # of a cost: the trial's attribute
    times: str = "1"  # of a cost: what makes it that attribute's unit


WORDS = (
    Word("seed", "seed randomseed randomstate rngseed rng manualseed torchseed replicate "
         "replication rep repeat repetition fold cvfold kfold foldid trialseed",
         "replicates of a setting; runs of equal numbers are pairs"),
    Word("run", "run runid trial trialid trialnumber trialno job jobid number",
         "which run a row belongs to; a replicate number where settings share it"),
    Word("state", "state status runstatus trialstatus", "whether the run came to its end"),
    Word("epoch", "epoch epochs nepochs numepochs maxepochs totalepochs trainepochs epochnumber "
         "trainingepochs",
         "of rows in a sequence: the epoch of a run; else how long a run trains"),
    Word("step", "step steps globalstep iteration iterations iter trainingiteration "
         "trainerglobalstep",
         "the step of a run, where there is no epoch"),
    Word("cost", "bestepoch", "the epoch with the best figure", "best_epoch"),
    Word("cost", "epochstrained stoppedepoch epochsrun epochstopped", "epochs until it stopped",
         "epochs_trained"),
    Word("cost", "parameters params nparams numparams nparameters numparameters "
         "parametercount paramcount trainableparams trainableparameters totalparams",
         "size of the network", "parameters"),
    Word("cost", "paramsm parametersm paramsmillions mparams paramsmillion", "size in millions",
         "parameters", "1000000"),
    Word("cost", "paramsk parametersk kparams", "size in thousands", "parameters", "1000"),
    Word("cost", "latency latencyms inferencetime inferencems inferencetimems msperimage",
         "time for one image in ms", "latency_ms"),
    Word("cost", "latencys latencyseconds inferencetimes", "time for one image in s",
         "latency_ms", "1000"),
    Word("cost", "imagespersecond imagess samplespersecond throughput imgs imgpersec",
         "throughput", "images_per_second"),
    Word("identity", "uid fromuid id index name runname trialname experiment experimentid "
         "experimentname expid expname exp variant group groupname sweep jobtype user host "
         "hostname gridid no row rowid", "who a row is"),
    Word("setting", "testsize trainsize valsize testsplit trainsplit valsplit validationsplit",
         "how the data are split"),
    Word("note", "note notes comment comments remark remarks description desc path file filename "
         "checkpoint ckpt command cmd tags url logdir outputdir device gpu gpuname gitcommit "
         "commit pid nodeip rank ranktestscore candidate pareto created createdat date datetime "
         "timestamp starttime endtime start end username artifacturi message nruns numruns runs "
         "nseeds numseeds nsplits",
         "what was said of a run"),
)  # fmt: skip

# Last words of names that are measured, with a unit or without: `total_time`, `gpu_mb`.
TIMES = _set("time duration runtime elapsed walltime seconds secs sec minutes mins hours hrs")
MEASURED = _set(
    "memory mem ram vram mb mib gb gib kb kwh wh joules watts energy power flops gflops mflops "
    "tflops macs gmacs mmacs madds fps utilization util co2 emissions size carbon"
)
SECONDS = {
    "ms": "0.001", "msec": "0.001", "milliseconds": "0.001", "s": "1", "sec": "1", "secs": "1",
    "second": "1", "seconds": "1", "min": "60", "mins": "60", "minute": "60", "minutes": "60",
    "h": "3600", "hr": "3600", "hrs": "3600", "hour": "3600", "hours": "3600",
}  # fmt: skip
UNITS = frozenset({*SECONDS, "mb", "mib", "gb", "gib", "kb", "us"})
TRAINING_TIME = _set(
    "seconds secs sec time duration durations runtime walltime elapsed traintime trainingtime "
    "minutes hours timeelapsed totaltime elapsedtime timetotal trainingduration trainduration "
    "trainruntime fittime"
)
# Those of our fields, but for words that elsewhere mean a figure, a cost or a split.
_OF_FIELDS = frozenset(word for name in FIELD_NAMES for word in name.split("_")) - _set(
    "epochs seed size test time ema"
)
# Words of settings; a name that has one is chosen, whatever its cells look like.
SETTINGS = _OF_FIELDS | _set(
    """lr rate learning wd decay momentum dropout drop batch batchsize bs width depth hidden layers
    layer units filters kernel stride optimizer optimiser opt model arch architecture network net
    backbone augmentation augment aug norm bn batchnorm activation pooling scheduler schedule
    warmup gamma beta beta1 beta2 eps epsilon temperature alpha lambda l1 l2 smoothing channels
    heads embedding dim rank patience clip pretrained weights init initialization method dataset
    strategy policy loss_fn regularization penalty solver criterion neighbors estimators
    classifier algorithm nesterov bias residual mixup cutmix cutout subset image resolution
    sharpness_rho rho tau top_k topk window context sequence length encoder decoder head"""
)
_NOT_ALONE = _set("rate size learning drop image length rank weights loss")

SPLITS = {
    "validation": _set("val valid validation dev eval evaluation holdout oof cv"),
    "test": _set("test testing tst"),
    "training": _set("train training trn tr fit"),
}
_SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
BEST, LAST, MEAN, SPREAD = "best", "last", "mean", "spread"
QUALIFIERS: Mapping[str, str] = {
    **dict.fromkeys(("best", "max", "min", "highest", "lowest"), BEST),
    **dict.fromkeys(("final", "last", "end"), LAST),
    **dict.fromkeys(("mean", "avg", "average"), MEAN),
    **dict.fromkeys(
        _set("std stdev stddev sd se sem stderr var variance ci ci95 iqr low high lower upper"),
        SPREAD,
    ),
}
_AFTER = _set(
    "macro micro weighted avg b m score rate epoch step value mean classification top overall "
    "per class"
)
_COUNTS = _set("epoch step iteration iter")
_UNSAID = frozenset({"epoch", "step", "value", "b", "m", "score", "classification"})
_TOOLS = (  # prefixes that tools give to what is chosen, and to what comes out
    (re.compile(r"^(params?|config|hparams?|hyperparam(eter)?s?|hp)[._/]", re.I), "setting"),
    (re.compile(r"^(metrics?|summary|scores?|results?|history|logs?)[._/]", re.I), "figure"),
    (re.compile(r"^(system_attrs|tags|tag|attrs)[._/]", re.I), "note"),
    (re.compile(r"^(user_attrs|attributes|args|settings?|options?|kwargs)[._/]", re.I), ""),
)  # fmt: skip
_FOLD = re.compile(r"(split|fold|cv)\d+")  # `split0_test_score`: a part of what is compared
_COMPLEMENT = re.compile(r"\s*(1|one)[\s_]*([-–−]|minus[\s_])", re.I)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")
_PERCENT = re.compile(r"%|(\b|_)(pct|percent|percentage|perc)(\b|_|$)", re.I)
_MEASURE_OF = {word: measure for measure in MEASURES for word in measure.words.split()}
_WORD_OF = {word: meaning for meaning in WORDS for word in meaning.words.split()}


@dataclass(frozen=True)
class FigureName:
    """What a figure's name says of it."""

    name: str  # "accuracy", "terrain accuracy"
    better: str | None
    share: bool
    split: str | None  # "validation", "test", "training"
    qualifier: str | None  # BEST, LAST, MEAN or SPREAD
    percent: bool
    plain: bool  # the measure's own name, without words beside it

    @property
    def words(self) -> str:
        """The figure as tables name it: `validation loss`."""
        return f"{self.split} {self.name}" if self.split else self.name


@dataclass(frozen=True)
class Name:
    """What a column's name says."""

    text: str  # without the prefix of a tool
    role: str | None  # of ROLES; None: nothing is known
    figure: FigureName | None = None
    key: str = ""  # of a cost that is a trial's attribute
    times: Decimal = Decimal(1)


def words_of(name: str) -> list[str]:
    """Split a name into its words, in lower case."""
    return re.findall(r"[^\W_]+", _CAMEL.sub(" ", name).lower())


@lru_cache(maxsize=4096)
def understand(column: str) -> Name:
    """Read a column's name."""
    if column.endswith(
        " (factor)"
    ):  # of our own HiPlot page: a factor that is called like a figure
        return Name(column.removesuffix(" (factor)"), "setting")
    text, hint = _without_tool(column.strip().lstrip("_"))
    word = _WORD_OF.get(squeeze(text)) or _WORD_OF.get("".join(words_of(text)))
    if hint in ("setting", "note"):
        counted = hint == "setting" and word is not None and word.role in ("seed", "epoch")
        return Name(text, word.role if counted and word else hint)
    if word is not None:
        return Name(text, word.role, key=word.key, times=Decimal(word.times))
    return _unlisted(text)


def _without_tool(text: str) -> tuple[str, str]:
    """Return a name without the prefix of a tool, and what the prefix says."""
    for pattern, meaning in _TOOLS:
        rest = pattern.sub("", text)
        if rest and rest != text and squeeze(text) not in _WORD_OF:
            return rest, meaning
    return text, ""


def _unlisted(text: str) -> Name:
    """Read a name that is in no table by its words."""
    words = words_of(text)
    if words[-1:] == ["seed"]:  # data_seed, init_seed
        return Name(text, "seed")
    if _is_when(words):
        return Name(text, "note")
    figure = _figure(text)
    if figure is not None:
        return Name(text, "figure", figure)
    if _is_setting(text):
        return Name(text, "setting")
    remark = {"note", "notes", "comment", "comments", "remark", "remarks", "tag", "tags", "url"}
    return _cost(text) or Name(text, "note" if remark & {*words_of(text)} else None)


def _is_when(words: list[str]) -> bool:
    """Whether words name when a figure was best, or how long it took: `best_val_acc_epoch`."""
    measured = any(word in _MEASURE_OF for word in words)
    best = any(QUALIFIERS.get(word) == BEST for word in words)
    counts = {*words[:1], *words[-1:]} & _COUNTS
    return measured and ("to" in words or (best and bool(counts)))


def _figure(text: str) -> FigureName | None:
    """Read a name as a figure: splits and qualifiers anywhere, the measure as its last words."""
    percent = bool(_PERCENT.search(text))
    plain = re.sub(r"\(factor\)|[\[(](%|percent|pct)[\])]|%", " ", text)
    words = [
        word for word in words_of(plain) if word not in ("pct", "percent", "percentage", "perc")
    ]
    joined = _joined(words)
    if joined is not None:
        words = joined
    splits = [_SPLIT_OF[word] for word in words if word in _SPLIT_OF]
    turned, rest = _turned(plain, words)
    rest = [word for word in rest if word not in _SPLIT_OF and not _FOLD.fullmatch(word)]
    qualifiers = [QUALIFIERS[word] for word in rest if word in QUALIFIERS]
    if "".join(rest) in _MEASURE_OF:  # a mean squared error is no mean of errors
        qualifiers = []
    else:
        rest = [word for word in rest if word not in QUALIFIERS]
    measure, extra = _measure(rest)
    if measure is None or len(set(splits)) > 1:
        return None
    if any(_FOLD.fullmatch(word) for word in words):
        qualifiers = [SPREAD]
    order = [qualifier for qualifier in (SPREAD, MEAN, BEST, LAST) if qualifier in qualifiers]
    name = " ".join(filter(None, [turned, *extra, measure.name]))
    better = {HIGHER: LOWER, LOWER: HIGHER}.get(str(measure.better)) if turned else measure.better
    return FigureName(
        name, better, measure.share,
        splits[0] if splits else None, order[0] if order else None, percent, not extra,
    )  # fmt: skip


def _turned(text: str, words: list[str]) -> tuple[str, list[str]]:
    """Return what turns a figure's direction, and the other words: `neg_log_loss`, `1 - acc`."""
    if words[:1] in (["neg"], ["negative"]):
        return "negative", words[1:]
    start = _COMPLEMENT.match(text)
    rest = words_of(text[start.end() :]) if start else []
    bare = "".join(word for word in rest if word not in _SPLIT_OF) in _MEASURE_OF
    return ("1 minus", rest) if bare else ("", words)  # `1-shot accuracy` is an accuracy


def _joined(words: list[str]) -> list[str] | None:
    """Split `valacc` and `testloss`, written as one word."""
    if len(words) != 1:
        return None
    for split_words in SPLITS.values():
        for prefix in split_words:
            rest = words[0].removeprefix(prefix)
            if len(prefix) > 2 and rest != words[0] and rest in _MEASURE_OF:
                return [prefix, rest]
    return None


def _measure(words: list[str]) -> tuple[Metric | None, list[str]]:
    """Return the measure that the last words name, and the words that it does not know."""
    for start in range(len(words)):
        for end in range(len(words), start, -1):
            measure = _MEASURE_OF.get("".join(words[start:end]))
            beside = [*words[:start], *words[end:]]
            after = all(word in _AFTER or word.isdigit() for word in words[end:])
            if measure is not None and after and not (beside and measure.better is None):
                return measure, [word for word in beside if word not in _UNSAID]
    return None, []


def _cost(text: str) -> Name | None:
    """Read a name as something that is measured beside the figure: times, memory, energy."""
    words = words_of(text)
    unit = words[-1] if words and words[-1] in UNITS and len(words) > 1 else None
    rest = words[:-1] if unit else words
    if not rest:
        return None
    if "".join(rest) in TRAINING_TIME and (unit is None or unit in SECONDS):
        times = SECONDS.get(unit or rest[-1], "1")
        return Name(text, "cost", key="seconds", times=Decimal(times))
    if rest[-1] in TIMES or rest[0] in ("time", "duration") or (unit in SECONDS and len(rest) > 1):
        return Name(text, "cost")
    measured = rest[-1] in MEASURED or (unit is not None and unit not in SECONDS)
    size = rest[-1] == "size" and len(rest) > 1 and rest[-2] not in ("model", "file", "disk")
    return Name(text, "cost") if measured and not size else None


def _is_setting(text: str) -> bool:
    words = words_of(text)
    if words[-1:] == ["drop"] and any(word in _MEASURE_OF for word in words):
        return False  # acc_drop
    settings = [word for word in words if word in SETTINGS]
    return bool(settings) and not (
        len(words) == 1 and words[0] in _NOT_ALONE and words[0] != "rate"
    )
