"""The plans that ship with fmnist-study, one TOML file each."""
