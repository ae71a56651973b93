"""What is said about imported results: `[[claims]]` of their author, and a factorial's model."""

import tomllib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from fmnist_common.text import level_text
from study.plans.plan import Level
from study.plans.reported import CLAIM, check_claim
from study.plans.variants import checked, listed
from trainer.errors import UserError, choose

ADDITIVE = "additive"


def read_claims(
    path: Path, plan: Mapping[str, Any], levels: Mapping[str, Sequence[Level]]
) -> list[dict[str, Any]]:
    """Read a TOML file of `[[claims]]`; the factors are those of the imported study.

    Raises:
        UserError: the file cannot be read, or a claim names what the study does not have.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise UserError(f"--claims {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--claims {path}: {error}") from error
    for key in values:
        if key != "claims":
            raise UserError(choose(f"--claims {path}: key", key, ["claims"]))
    claims = []
    for key, entry in listed("claims", values.get("claims", ())):
        claim = checked(key, entry, CLAIM, ("text",))
        check_claim(key, claim, levels)
        factor_levels = levels.get(claim.get("factor", ""), ())
        by_text = {level_text(level): level for level in factor_levels if level is not None}
        for word in ("best", "better", "worse", "no_worse", "than"):
            if word in claim and not isinstance(claim[word], dict):
                claim[word] = by_text[level_text(claim[word])]
        claims.append(claim)
    return claims


def parse_model(text: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Read `additive`, or `additive + a:b + c:d`: the pairs of factors that may act on each other.

    Raises:
        UserError: the study is no factorial, or a name is none of its factors.
    """
    if plan["design"] != "factorial":
        raise UserError(f"--model {text}: is for factorials; this is no factorial")
    first, *pairs = [part.strip() for part in text.split("+")]
    if first != ADDITIVE:
        raise UserError(f"--model = {text!r}: must be {ADDITIVE}, or {ADDITIVE} + A:B + ...")
    factors = list(plan["factors"])
    names = {f"{a}:{b}": [a, b] for a, b in combinations(factors, 2)}
    turned = {f"{b}:{a}": [a, b] for a, b in combinations(factors, 2)}
    for pair in pairs:
        if pair not in names | turned:
            raise UserError(choose("--model pair", pair, list(names)))
    return {"pairs": [(names | turned)[pair] for pair in pairs]}
