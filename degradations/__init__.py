"""The built-in degradations, one file each. They enter through the same public door as anybody's."""
