"""The target cannot be imported.

## What it does
Imports the file or module of the target as a script would be: its folder is on the path, relative imports work, and
code under `if __name__ == "__main__"` does not run. Reports the line that raised.

## Why is this bad
Nothing else can be checked.

## Example
    import a_module_that_is_not_installed

## Use instead
Install the missing package into the environment that vaelint runs in.

## When to ignore
Never: the exit code is 2.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE001")
def check(model: Model) -> Findings:
    """Found before there is a model to read: the engine reports it."""
    yield from ()
