"""A plugin that fails in colour, on three lines."""

raise RuntimeError("no\nway\r\n\x1b[31mat all\x07")
