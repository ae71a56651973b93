"""What the server that workers are forked from has loaded: torch, and nothing used of it.

Imported in that server only; it must not outlive the owner of the study, nor they it.
"""

import torch._dynamo  # noqa: F401 # loaded by torch at the first optimiser: most of a second

import study.run.executors.worker  # noqa: F401 # the loading is the purpose
from study.run.executors.parent_death import die_with_parent

die_with_parent()
