"""The tables of studies, a file per kind: what is computed once and written in every format."""
