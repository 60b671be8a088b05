"""The library from Python, step by step: damage a photograph, restore it, compare, look.

python examples/use_from_python.py [FOLDER]
"""

# %% A photograph: any PIL image, any float32 array of H×W×3 in [0, 1], or a path
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from defusion_cli import DefusionPipeline, degrade, make_ground, restore, score

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "out")
folder.mkdir(parents=True, exist_ok=True)
clean = np.asarray(Image.open(Path(__file__).parent / "clean/astronaut.jpg"), np.float32) / 255

# %% Rain on it: the same seed gives the same rain
rainy = degrade(clean, "rain", severity=0.5, seed=3)

# %% What the model is shown when it is told "rain": a test chart, rained on, and the difference
ground = make_ground("rain", severity=0.6)
instruction = 0.5 + ground.instruction / 2

# %% Take the rain away; several names take several kinds of damage away
restored = restore(rainy, "rain")
print("rainy   ", {name: round(value, 3) for name, value in score(rainy, clean).items()})
print("restored", {name: round(value, 3) for name, value in score(restored, clean).items()})

# %% The same as a diffusers pipeline, for those who want to change its parts
pipeline = DefusionPipeline.from_pretrained("default").to("cpu")
picture = Image.fromarray(np.rint(rainy * 255).astype(np.uint8))
drawn = pipeline(picture, "rain", num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images[0]

# %% Side by side
rows = [rainy, restored, np.asarray(drawn, np.float32) / 255, clean]
path = folder / "from-python.jpg"
Image.fromarray(np.rint(np.concatenate(rows, axis=1) * 255).astype(np.uint8)).save(path, quality=90)
Image.fromarray(np.rint(instruction * 255).astype(np.uint8)).save(folder / "instruction.png")
print(path)
