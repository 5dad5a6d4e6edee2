"""Estimators of a bound's gradient: what of log q is held, and what of it moves."""
