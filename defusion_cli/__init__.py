"""defusion: photo restoration by a diffusion model that is shown what to remove."""

__version__ = "0.1.0"
