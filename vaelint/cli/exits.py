"""Exit codes of every command, as ruff has them: a gate reads 1 as "something was found" and 2 as "the check did not take place"."""

EXIT_CLEAN, EXIT_FINDINGS, EXIT_TROUBLE, EXIT_INTERNAL = 0, 1, 2, 3
