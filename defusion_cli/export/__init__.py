"""The network for programs without PyTorch."""

from defusion_cli.export.onnx import Check, check_onnx, check_packages, export_onnx

__all__ = ["Check", "check_onnx", "check_packages", "export_onnx"]
