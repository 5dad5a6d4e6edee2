"""What all parts speak of: findings, results, inputs, edits, errors, files. Imports no torch."""
