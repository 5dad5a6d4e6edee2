"""The user's module, its class and its inputs brought to life."""
