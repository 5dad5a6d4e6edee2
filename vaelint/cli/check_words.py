"""`vaelint check`: the command line to plain words."""

from __future__ import annotations

from vaelint.cli import options
from vaelint.cli.checking import Words, check_all


def check(
    context: options.Context,
    targets: options.Targets = None,
    input: options.Inputs = None,
    init: options.Init = None,
    loss: options.Loss = None,
    step: options.Step = None,
    device: options.Device = None,
    timeout: options.Timeout = None,
    max_memory: options.MaxMemory = None,
    perturb: options.Perturb = None,
    laws: options.Laws = None,
    select: options.Select = None,
    ignore: options.Ignore = None,
    extend_select: options.ExtendSelect = None,
    output_format: options.OutputFormat = None,
    output_file: options.OutputFile = None,
    fail_on: options.FailOn = None,
    exit_zero: options.ExitZero = False,
    baseline: options.Baseline = None,
    update_baseline: options.UpdateBaseline = False,
    prune_baseline: options.PruneBaseline = False,
    add_ignore: options.AddIgnore = None,
    show_refuted: options.ShowRefuted = False,
    color: options.Color = None,
    verbose: options.Verbose = False,
    jobs: options.Jobs = None,
    no_cache: options.NoCache = False,
    shard: options.Shard = None,
    watch: options.Watch = False,
    fix: options.Fix = False,
    diff: options.Diff = False,
    timings: options.Timings = False,
    isolated: options.Isolated = False,
    allow_no_loss: options.AllowNoLoss = None,
) -> int:
    """Check models. Exit code 0: clean; 1: findings; 2: wrong usage, or a target not analysed, or not completely; 3: a fault of vaelint."""
    file, bar = str(output_file) if output_file else None, fail_on.value if fail_on else None
    known = str(baseline) if baseline else None
    words = Words(
        targets, input, init, loss, step, device, timeout, perturb, laws, select, ignore, extend_select, output_format, file, bar,
        exit_zero, known, update_baseline, prune_baseline, add_ignore, show_refuted, color, verbose, jobs, no_cache, shard, watch,
        fix, diff, timings, isolated, allow_no_loss, max_memory,
    )  # fmt: skip
    return check_all(words, context.obj)
