"""`vaelint server`: the checks in an editor, over the Language Server Protocol. Needs the extra `vaelint[server]`."""
