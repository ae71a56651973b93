# Commands of everyday work; `just` lists them.

default:
    @just --list

# Install with what the tests need.
install:
    pip install -c constraints.txt -e '.[test]'

# What can be said without running anything.
check:
    ruff check .
    ruff format --check .
    mypy

# Mend what ruff can mend.
fix:
    ruff check --fix .
    ruff format .

# The tests of every day, in a few minutes; `just test tests/study` for some of them.
test *what:
    pytest {{what}}

# All tests, slow ones too.
test-all:
    pytest -m "slow or not slow"

# How the house stands: import circles, floors, the longest files and functions.
house:
    python -m tests.support.house

# Everything that a landing must pass.
ci:
    .ci/run
