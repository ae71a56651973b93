"""How it is trained: what is left to do, on which workers, and one process that decides."""
