"""BLAKE2b (RFC 7693), without the rest of `hashlib` where it can be had so: that imports OpenSSL, which takes longer than most answers."""

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

__all__ = ["blake2b"]
