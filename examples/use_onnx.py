"""Restore a photograph with onnxruntime and NumPy alone, once `defusion export onnx defusion.onnx` has been run.

python examples/use_onnx.py defusion.onnx rain PHOTO OUT.png
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

MULTIPLE, THUMBNAIL, CROP = 16, 256, 128

graph, degradation, source, target = sys.argv[1:]
tokens = np.load(graph.removesuffix(".onnx") + ".npz")[degradation]
image = Image.open(source).convert("RGB")
photo = np.asarray(image, np.float32) / 255
height, width = photo.shape[:2]
padded = np.pad(photo, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), mode="symmetric")
view = np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float32) / 255

# Up to sixteen parts of the photograph as they are, on the grid of JPEG: noise and compression are read from them.
large = np.pad(photo, ((0, max(0, CROP - height)), (0, max(0, CROP - width)), (0, 0)), mode="symmetric")
starts = [np.linspace(0, side - CROP, min(4, side // CROP)).round().astype(int) // 8 * 8 for side in large.shape[:2]]
crops = np.stack([large[top : top + CROP, left : left + CROP] for top in starts[0] for left in starts[1]])

session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
inputs = {"photo": padded, "thumbnail": view}
inputs = {name: value.transpose(2, 0, 1)[None] for name, value in inputs.items()}
whole = np.array([[0, 0, 1, 1]], np.float32)  # left, top, right, bottom; of tiles their place in the photograph
inputs |= {"tokens": tokens, "box": whole, "crops": crops.transpose(0, 3, 1, 2)}
asked = {entry.name for entry in session.get_inputs()}
restored = session.run(None, {name: value for name, value in inputs.items() if name in asked})[0]
restored = restored[0].transpose(1, 2, 0)[:height, :width]
Image.fromarray(np.rint(restored * 255).astype(np.uint8)).save(target)
print(target)
