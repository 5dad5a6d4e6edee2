"""Laws on second moments: covariances, and how they are carried on."""
