"""Figure 7 of the paper: an image beside the top right singular vectors of its Jacobian, as one PNG.

Run it with ``python -m examples.figure7``; it writes ``figure7.png``.
"""

import torch
from PIL import Image

from jepascore_core import load_dataset, load_encoder, singular_vectors

encoder, photos = load_encoder("demo:jepa-tiny"), load_dataset("demo:photos")
picture = photos.read(photos.items[60])
_, S, Vh = singular_vectors(encoder, encoder.transform(picture), k=5)  # (5,), (5, C, H, W)

scale = Vh.abs().max()  # one scale for the row, symmetric around zero, which is mid-grey
tiles = [Image.fromarray(((v / scale + 1) * 127.5).permute(1, 2, 0).to(torch.uint8).numpy()) for v in Vh]
row = Image.new("RGB", (6 * 168, 160), "white")
for column, tile in enumerate([picture, *tiles]):
    row.paste(tile.resize((160, 160), Image.Resampling.NEAREST), (168 * column, 0))
row.save("figure7.png")
print("figure7.png; σ =", ", ".join(f"{sigma:.2f}" for sigma in S))
