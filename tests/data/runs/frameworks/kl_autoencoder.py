"""diffusers' AutoencoderKL trained with accelerate: mixed precision off, gradients added up over two batches."""

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL

accelerator = Accelerator(gradient_accumulation_steps=2)
vae = AutoencoderKL(
    block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=16,
    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
)  # fmt: skip
optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-4)
loader = torch.utils.data.DataLoader(torch.rand(64, 3, 16, 16) * 2 - 1, batch_size=8, shuffle=True)
vae, optimizer, loader = accelerator.prepare(vae, optimizer, loader)
for images in loader:
    with accelerator.accumulate(vae):
        posterior = vae.encode(images).latent_dist
        reconstruction = vae.decode(posterior.sample()).sample
        error = (images - reconstruction).pow(2).sum(dim=(1, 2, 3)).mean()
        loss = error + posterior.kl().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
