"""Training data: sources of photographs, and samples synthesised from them on the fly."""
