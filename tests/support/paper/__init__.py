"""A GPU of paper: the real CUDA dispatch of a bank's step, on fake tensors, without a GPU."""
