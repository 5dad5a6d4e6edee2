import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
import lightning.pytorch as pl
from lightning_vae import VAE


class Anneal(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        module.beta = min(1.0, trainer.global_step / 1000)


class VaeGan(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.vae = VAE()
        self.critic = nn.Sequential(nn.Linear(64, 16), nn.LeakyReLU(), nn.Linear(16, 1))
        self.beta = 0.0

    def training_step(self, batch, batch_idx):
        x = batch[0]
        opt_g, opt_d = self.optimizers()
        logits, mu, logvar = self.vae(x)
        rec = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.size(0)
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
        fake = torch.sigmoid(logits)
        adv = F.binary_cross_entropy_with_logits(self.critic(fake), x.new_ones(x.size(0), 1))
        opt_g.zero_grad()
        self.manual_backward(rec + self.beta * kl + 0.1 * adv)
        opt_g.step()
        d = F.binary_cross_entropy_with_logits(self.critic(x), x.new_ones(x.size(0), 1)) + F.binary_cross_entropy_with_logits(
            self.critic(fake.detach()), x.new_zeros(x.size(0), 1)
        )
        opt_d.zero_grad()
        self.manual_backward(d)
        opt_d.step()
        self.log_dict({"rec": rec, "kl": kl, "d": d})

    def configure_optimizers(self):
        return torch.optim.Adam(self.vae.parameters()), torch.optim.Adam(self.critic.parameters())


data = TensorDataset(torch.rand(203, 64), torch.zeros(203))
pl.Trainer(max_epochs=3, callbacks=[Anneal()]).fit(VaeGan(), DataLoader(data, batch_size=32, shuffle=True))
