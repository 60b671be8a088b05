"""Degradation-space diffusion: backbone, noise schedule, pipeline."""

from defusion_cli.diffusion.pipeline import DefusionPipeline, make_thumbnail
from defusion_cli.diffusion.schedule import diffuse, make_scheduler
from defusion_cli.diffusion.unet import DegradationUNet

__all__ = ["DefusionPipeline", "DegradationUNet", "diffuse", "make_scheduler", "make_thumbnail"]
