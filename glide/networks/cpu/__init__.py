"""CPU kernels: fused operations in C and weights packed ahead of time."""
