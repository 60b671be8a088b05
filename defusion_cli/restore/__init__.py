"""Restoring photographs: model loading, instructions, tiles, folder runs and the before/after sheet.

``model.load_pipeline`` and ``pixels.restore_pixels`` are what other code needs. Nothing is imported here, because
planning a run needs no torch.

The package is a function, too: `defusion_cli.api.restore`.
"""

import sys

from defusion_cli.callable_package import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
