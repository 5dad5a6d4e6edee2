"""Images where PIL is not installed: those that are made up are opened, and so is a PNG; what only PIL reads asks for it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import commandline
import numpy as np
import pytest
from numpy.typing import NDArray

from vaelint.observe.data.images import pillow
from vaelint.pipeline.script_errors import said_of

FACES = """import os
import numpy as np
import torch
from PIL import Image, ImageFile
from torch import nn
from typing import List

ImageFile.LOAD_TRUNCATED_IMAGES = True


class Faces(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.files = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]

    def __getitem__(self, n):
        with Image.open(self.files[n]) as image:
            image = image.convert("RGB").crop((20, 20, 60, 60)).resize((8, 8), Image.BILINEAR)
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255

    def __len__(self):
        return len(self.files)


def shown(x) -> List[Image.Image]:
    return [Image.fromarray((v * 255).byte().numpy()) for v in x]


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(192, 8), nn.Linear(4, 192)

    def forward(self, x):
        mu, logvar = self.enc(x.flatten(1)).chunk(2, 1)
        y = self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()).sigmoid()
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return nn.functional.binary_cross_entropy(y, x.flatten(1), reduction="sum") + kl


model = VAE()
optimizer = torch.optim.Adam(model.parameters())
for x in torch.utils.data.DataLoader(Faces("faces"), batch_size=8):
    optimizer.zero_grad()
    loss = model(x)
    loss.backward()
    optimizer.step()
"""


def test_made_up_images_are_opened_where_pillow_is_absent(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(FACES)
    said = " ".join(commandline.vaelint("check", ".", cwd=tmp_path).stdout.split())
    assert "an ELBO" in said and "300 made-up images instead of the folder faces" in said, said


def _png(rows: NDArray[np.int64], kinds: list[int]) -> bytes:
    """A PNG of one pixel of three values after another, each row with its filter."""
    body = b""
    for y, row in enumerate(rows):
        left = np.concatenate([[0] * 3, row[:-3]])
        up = rows[y - 1] if y else np.zeros_like(row)
        corner = np.concatenate([[0] * 3, up[:-3]])
        nearest = [min((a, b, c), key=lambda v: abs(a + b - c - v)) for a, b, c in zip(left, up, corner, strict=True)]
        before = [np.zeros_like(row), left, up, (left + up) // 2, np.array(nearest)][kinds[y]]
        body += bytes([kinds[y], *((row - before) % 256).tolist()])
    head = struct.pack(">IIBBBBB", rows.shape[1] // 3, len(rows), 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I4s", len(d), k) + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)


def test_a_png_is_read_whatever_its_filters() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (10, 21))
    image = pillow.open_image(io.BytesIO(_png(rows, [0, 1, 2, 3, 4] * 2)))
    assert image.size == (7, 10) and image.mode == "RGB"
    assert (np.asarray(image) == rows.reshape(10, 7, 3)).all()


def test_what_only_pillow_reads_asks_for_it() -> None:
    with pytest.raises(ModuleNotFoundError, match="PIL"):
        pillow.open_image(io.BytesIO(b"\xff\xd8\xff\xe0"))
    with pytest.raises(AttributeError) as raised:
        pillow.new("L", (4, 4)).rotate(30)
    assert said_of(raised.value)[1] == "pip install pillow"
