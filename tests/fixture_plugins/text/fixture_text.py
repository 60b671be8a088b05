"""An entry point that is no degradation."""

TEXT = "rain"
