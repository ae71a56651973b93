"""An executor as another package brings it."""

from study.run.executors import Request
from study.run.executors.inline import InlineExecutor
from study.run.hardware import specs_for


def executor_for(request: Request) -> InlineExecutor:
    return InlineExecutor(specs_for(request))
