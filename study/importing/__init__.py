"""Results of others become a study: file -> sheet -> runs -> design -> database.

Nobody's table says which column is what. It is told from the names and the values, every decision
is printed, and what would change a figure is an error.
"""

from study.importing.sheet import Sheet, read_sheet
from study.importing.store import store
from study.importing.study import ImportedStudy, ImportedTrial, make_study

__all__ = ["ImportedStudy", "ImportedTrial", "Sheet", "make_study", "read_sheet", "store"]
