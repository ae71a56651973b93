"""What a study found, in plain words: a reader's questions, answered from the table's figures."""
