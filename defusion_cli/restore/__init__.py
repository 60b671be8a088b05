"""Restoring photographs: model loading, instructions, tiles, folder runs and the before/after sheet."""

from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import restore_pixels

__all__ = ["load_pipeline", "restore_pixels"]
