"""The mathematics of diffusion: noise schedules, the process, the denoiser, losses."""
