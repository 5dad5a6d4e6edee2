"""The words of the survey's page; `survey_page.py` puts in the figures."""

PAGE = """# A survey of public repositories

`vaelint check .` was run in {repositories} public repositories that train PyTorch VAEs, and given nothing else: no shapes, no loss, no
configuration. None of them had been used to write or improve a rule. Each finding below was read against the code by a reviewer before it
was listed.

- **{bug} repositories have an active bug**: in {bug} of the {analysed} repositories in which a model could be analysed ({share}), a
  reviewer holds at least one
  finding about what is optimised to be true: noise that is not normal, a KL that does not belong to the draw, a weight that came from
  an average, layers that are never trained. These raise nothing: the training runs, and its loss falls. {other} more have only findings
  about a hard-coded device or unused layers.
- **{precision} of {read} reviewed findings are true** (95 % interval {interval}); {arguable} are arguable and {false} false. The false
  ones
  are [listed too](#false-alarms).
- **Effective betas range from {least} to {most}.** {betas} losses have a known weight of the KL against the reconstruction; {one} of them
  are an ELBO (beta = 1).

Authors of research code share it so that others can learn from it, and the survey is possible only because they did. A finding is a
statement about one line at one commit. It does not judge a paper's results, which may come from other code or other settings, or be
right in spite of it; several findings are choices that work well in practice.

## Bugs by family

Repositories with at least one true finding, by family of rules (`vaelint rules`); paler: those with arguable findings only.

![Bars: {alt_families}](output/survey-families.svg)

{kinds}
## Effective beta

The weight of the KL relative to the reconstruction's log-likelihood, after all averages and sums ([what that is](kl-and-beta.md)), a dot
for each value in each repository; {misread} that a reviewer found misread are left out. 1 is the ELBO. {below} of {betas} are below 1 and
{above} above; {tiny} are 0.01 or less, {large} are 100 or more: mostly an average over pixels, latents or the batch that only one of the
two terms has.

![Dots over a logarithmic axis from 0.00001 to 100,000, most of them around 1](output/survey-beta.svg)

## What could be analysed

In {loss} of {repositories} repositories a model was analysed together with its loss ({observed} of them by observing their own training
script), in {model} the model alone, in {nothing} nothing.

![Bars: {alt_analysed}](output/survey-analysed.svg)

{reasons}
Most of what was not analysed needs what a survey does not have and its author does: the data, the packages, the arguments. vaelint makes
up
missing data sets where it can guess their shape.

## Findings held to be true

Each row is one place at one commit, with what vaelint measured there in its own words.

{true_table}
## Arguable findings

What vaelint says is so, but a reader may have wanted it, or it matters little there.

{arguable_table}
## False alarms

What vaelint said and a reviewer holds to be wrong. Each is a bug of vaelint; {fixed} of them have been fixed since, each with a test. The
figures of this page stay those of the first run.

{false_table}
## How it was done

- **Repositories**: found by their names (vae, variational, beta-vae, vqvae, cvae, ...) in an index of public repositories, taken if a
  Python file imports torch and names a part of a VAE. None is in the lists that rules were improved with
  (`benchmarks/corpus.json`, `benchmarks/entry_points.json`); nine that share files with one of those, or with each other, were taken out.
- **Runs**: vaelint at commit {commit}, {limit} seconds and 6 GB a repository, one after another, each in a copy, on two shared cores
  without a GPU, torch 2.13 for the CPU. {packages}
- **Reading**: each error and warning that a real run had not refuted was read against the code and judged true, arguable or false. About
  two thirds of the {read} were read again, later and by the same reviewer: no second person has judged them yet. {differ} judgements
  changed and count as arguable. True
  means:
  the line does what the finding says, and no comment or name says that it was chosen. A code counts once in a file.{unread}
- **Precision** counts true findings among all that were read; without the arguable ones it is {without}. Intervals are Wilson's.

The facts are in `benchmarks/survey.json`, with no code of the repositories: each row links to the line. To repeat it, or to carry on where
it stopped:

```console
$ python benchmarks/survey.py run CHECKOUTS results.jsonl
$ python benchmarks/survey.py keep results.jsonl
```

Is your repository listed, and the finding wrong? Please report it: a false alarm is a bug of vaelint. A request to leave the list is
followed.
"""
