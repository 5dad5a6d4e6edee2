"""The KL term: measured by its gradients, never by its spelling."""
