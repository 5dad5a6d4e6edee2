"""Repairs: from the meaning of a finding to edits of the user's text. Loaded only when edits are asked for."""
