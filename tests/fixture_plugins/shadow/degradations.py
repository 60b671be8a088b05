"""A module that hides the built-in package of the same name."""

SHADOW = "boo"
