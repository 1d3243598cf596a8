"""A client of an exported model, without PyTorch and without Chip Inspector.

python -m chipdemo export --format onnx --out edge
pip install onnxruntime pillow
python docs/client.py edge/model.onnx image.png ...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, *paths: str) -> None:
    session = onnxruntime.InferenceSession(model)
    about = session.get_modelmeta().custom_metadata_map
    size = (json.loads(about["image_size"]),) * 2  # the whole image, scaled to a square
    resample = Image.Resampling[about["interpolation"].upper()]
    threshold = json.loads(about["threshold"])
    for path in paths:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        pixels = np.asarray(image.resize(size, resample))[None]  # (1, size, size, 3) uint8
        probability, heat = session.run(["probability", "heat"], {"pixels": pixels})  # (1,), (1, h, w), 0-1
        verdict = "abnormal" if probability[0] >= threshold else "normal"
        print(f"{path}\t{verdict}\t{probability[0]:.3f}\tmaximum of the heat {heat[0].max():.2f}")
        if verdict == "abnormal":  # the heat in red over the image
            red = Image.fromarray((heat[0] * 255).astype(np.uint8)).resize(image.size)
            plain = Image.new("RGB", image.size, "red")
            Image.composite(plain, image, red.point(lambda v: v // 2)).save(f"{path}.heat.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
