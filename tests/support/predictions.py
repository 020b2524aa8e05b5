"""Shared by tests: X."""

import torch

X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
