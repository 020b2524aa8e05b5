"""From 64x64 to 256x256: the low-resolution planes and the cascade that join a second model to the first."""
