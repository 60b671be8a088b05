"""Recognising the damage of a photograph from the photograph alone."""

from defusion_cli.canvas import CROP_PX, cut_crops
from defusion_cli.recognition.features import FEATURES, describe
from defusion_cli.recognition.look import Recognition, recognise
from defusion_cli.recognition.network import DegradationRecogniser

__all__ = ["CROP_PX", "FEATURES", "DegradationRecogniser", "Recognition", "cut_crops", "describe", "recognise"]
