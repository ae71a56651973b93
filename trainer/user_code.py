"""Functions of the user's, named `package.module:function`: found, imported, hashed. No torch here.

They are looked for in the current folder and in those that were named (`look_in`), then where
Python looks. What goes wrong in them is the user's to mend, so it is said in a line.
"""

import hashlib
import importlib
import shlex
import shutil
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trainer.errors import UserError

_folders: list[str] = []  # of this process, beside the current one


def look_in(folders: Iterable[Path]) -> None:
    """Look for the user's modules in these folders too."""
    _folders.extend(str(folder) for folder in folders if str(folder) not in _folders)


def load(what: str, reference: str) -> Callable[..., Any]:
    """Import a function of the user's.

    Args:
        what: the key that names it, for messages: `architecture`.
        reference: `package.module:function`.

    Raises:
        UserError: there is no such module or function, or importing it raises.
    """
    module_name, _, path = reference.partition(":")
    key = f"{what} = {reference!r}"
    before = list(sys.path)
    places = list(dict.fromkeys([str(Path.cwd()), *_folders]))
    sys.path[:0] = places  # first, so that a module of theirs is not another's of that name
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            folders = ", ".join(places)
            hint = f"; the module of {module_name} is {module_name.removesuffix('.py')}"
            raise UserError(
                f"{key}: there is no module {error.name!r} in {folders}"
                f"{hint if module_name.endswith('.py') else ''}"
            ) from error
        raise UserError(f"{key}: {said(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{key}: {said(error)}") from error
    finally:
        # Last, so that what they import later is there, and nothing of Python's is hidden.
        sys.path[:] = [*before, *(place for place in places if place not in before)]
    for name in path.split("."):
        if not hasattr(value, name):
            valid = [n for n, v in vars(value).items() if callable(v) and not n.startswith("_")]
            there = f"; it has {', '.join(valid[:20])}" if valid else ""
            raise UserError(f"{key}: module {module_name!r} has no {path!r}{there}")
        value = getattr(value, name)
    if not callable(value):
        raise UserError(f"{key}: {path!r} is {type(value).__name__}, no function")
    function: Callable[..., Any] = value
    return function


def said(error: BaseException) -> str:
    """Say in a line what was raised, and where in the user's code, if it was raised in there."""
    words = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".removesuffix(": ")
    return placed(words, error)


def placed(words: str, error: BaseException) -> str:
    """Add to words where in the user's code something was raised, if it was raised in there."""
    place = where(error)
    return f"{words} ({place})" if place else words


def where(error: BaseException) -> str:
    """Return the line of the user's code in which something was raised; "" of other code."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _is_theirs(frame.filename)]
    if not theirs or isinstance(error, SyntaxError):  # which says itself where it is
        return ""
    return f"{Path(theirs[-1].filename).name}, line {theirs[-1].lineno}"


def _is_theirs(file: str) -> bool:
    """Whether code is neither ours, nor Python's, nor that of an installed library."""
    ours = [str(Path(__file__).parents[1] / package) for package in ("trainer", "study")]
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    inside = any(Path(file).is_relative_to(folder) for folder in (*ours, *libraries))
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return not (inside or installed or file.startswith("<"))


def fingerprint(reference: str) -> str:
    """Return the SHA-256 of the source file of an imported function's module; "" without one."""
    module = sys.modules.get(reference.partition(":")[0])
    file = getattr(module, "__file__", None)
    return hash_of(Path(file)) if file else ""


def hash_of(file: Path) -> str:
    """Return the SHA-256 of a file; "" where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def with_files(words: Iterable[str]) -> list[str]:
    """Return a command whose files are found: a script that lies in a named folder has its path."""
    return [_file(word) for word in words]


def check_program(command: str) -> None:
    """Check that the program of a command is there.

    Raises:
        UserError: it is not.
    """
    program, *_ = with_files(shlex.split(command))
    if shutil.which(program) is None:
        raise UserError(f"command = {command!r}: there is no program {program!r}")


def _file(word: str) -> str:
    if Path(word).exists() or Path(word).is_absolute():
        return word
    places = (Path(folder) / word for folder in _folders)
    return str(next((place for place in places if place.is_file()), word))


def fingerprints(functions: Iterable[tuple[str, str]], command: str = "") -> dict[str, str]:
    """Return the SHA-256 of the sources of imported functions, and of a command's files."""
    hashes = {reference: fingerprint(reference) for _, reference in functions}
    files = ((word, Path(_file(word))) for word in shlex.split(command)[1:])
    return hashes | {word: hash_of(file) for word, file in files if file.is_file()}
