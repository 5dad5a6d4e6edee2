import numpy as np
import anndata
import scvi

rng = np.random.default_rng(0)
adata = anndata.AnnData(rng.poisson(2.0, size=(400, 60)).astype("float32"))
adata.obs["batch"] = [str(i % 2) for i in range(400)]
scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
model = scvi.model.SCVI(adata, n_latent=5)
model.train(max_epochs=3, batch_size=64)
