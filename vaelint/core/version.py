"""The version, where all parts may read it: `import vaelint` itself leads to everything."""

__version__ = "0.1.0"
