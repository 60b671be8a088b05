"""A plugin that leaves the interpreter when it is imported."""

import sys

sys.exit("not today")
