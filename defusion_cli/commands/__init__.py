"""The subcommands, one module each; this table lets ``defusion --help`` list them without importing any.

``train-tokenizer`` lives in ``train_tokenizer.py`` as the function ``train_tokenizer``, and so on.
"""

COMMANDS = {
    "make-ground": "Draw visual grounds and their degraded twins.",
    "degrade": "Damage photographs as weather, optics and cameras do.",
    "train-tokenizer": "Train the tokenizer of visual instructions.",
    "train-recogniser": "Train the network that recognises damage.",
    "train": "Train the degradation diffusion model.",
    "restore": "Take rain, snow, haze, blur or noise out of photographs.",
    "data": "Check folders of data sets, and list those that are known.",
    "plugin": "Begin a degradation of your own, or check one.",
    "score": "Compare restored photographs with the true ones.",
    "export": "Write the network for programs without PyTorch.",
    "doctor": "Check this installation, and say what to fix.",
}
"""What each subcommand does, in one line, in the order of use."""
