"""Packages that read configurations, where they are not installed: they read the repository's own files."""
