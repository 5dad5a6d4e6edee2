"""All laws on estimators, in the order they are tried."""

from vaelint.laws.estimators import doubly, entropy_path, raised_draws

__all__ = ["doubly", "entropy_path", "raised_draws"]
