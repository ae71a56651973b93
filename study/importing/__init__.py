"""Results of others become a study: source -> table -> reading -> runs -> design -> database.

A reader knows its source's format; rules tell the columns of anybody's table. Every decision is
printed and kept, what is unclear is asked, and what would change a figure is an error.
"""

from study.importing.assembly import ImportedStudy, ImportedTrial
from study.importing.readers import KINDS, read_table
from study.importing.reading import Options, UnclearError
from study.importing.store import store
from study.importing.study import make_study
from study.importing.table import Table

__all__ = [
    "KINDS",
    "ImportedStudy",
    "ImportedTrial",
    "Options",
    "Table",
    "UnclearError",
    "make_study",
    "read_table",
    "store",
]
