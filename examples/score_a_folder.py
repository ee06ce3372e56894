"""Score the images of a folder and print the least and most likely ones.

Run it with ``python -m examples.score_a_folder [folder]``; without a folder it takes the demo's photographs.
"""

import sys

import torch

from jepascore_core import jepa_score, load_dataset, load_encoder, singular_values

dataset = load_dataset(f"folder:{sys.argv[1]}" if len(sys.argv) > 1 else "demo:photos")
encoder = load_encoder("demo:jepa-tiny")

scores: dict[str, float] = {}
items = dataset.items[::4]
for start in range(0, len(items), 16):
    batch = items[start : start + 16]
    images = torch.stack([encoder.transform(dataset.read(item)) for item in batch])  # (B, C, H, W)
    sigma = singular_values(encoder, images)  # (B, D)
    values = jepa_score(sigma, null_dim=encoder.spec.null_dim)  # (B,), nats
    scores.update(zip([item.key for item in batch], values.tolist(), strict=True))

ranked = sorted(scores, key=scores.__getitem__)
for title, keys in (("least likely", ranked[:5]), ("most likely", ranked[-5:][::-1])):
    print(title)
    for key in keys:
        print(f"  {scores[key]:8.2f}  {key}")
