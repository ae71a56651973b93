"""Where results are kept: the database and its one owner, journal, backups, what a start mends."""
