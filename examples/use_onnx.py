"""Restore a photograph with onnxruntime and NumPy alone, once `defusion export onnx defusion.onnx` has been run.

python examples/use_onnx.py defusion.onnx rain PHOTO OUT.png
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

MULTIPLE, THUMBNAIL, CROP = 16, 256, 128


def extended(photo, bottom, right):
    mode = "reflect" if bottom < photo.shape[0] and right < photo.shape[1] else "edge"
    return np.pad(photo, ((0, bottom), (0, right), (0, 0)), mode=mode)


graph, degradation, source, target = sys.argv[1:]
tokens = np.load(graph.removesuffix(".onnx") + ".npz")[degradation]
image = Image.open(source).convert("RGB")
photo = np.asarray(image, np.float32) / 255
height, width = photo.shape[:2]
padded = extended(photo, -height % MULTIPLE, -width % MULTIPLE)
view = np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float32) / 255

# Up to sixteen parts of the photograph as they are, on the grid of JPEG: noise and compression are read from them.
large = extended(photo, max(0, CROP - height), max(0, CROP - width))
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
