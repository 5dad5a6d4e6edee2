"""The words of the survey's page; `survey_page.py` puts in the figures."""

PAGE = """# A survey of public repositories

`vaelint check .` was run in {repositories} public repositories that train PyTorch VAEs, and given nothing else: no shapes, no loss, no
configuration. None of them had been used to write or improve a rule. Each finding below was read against the code by two readers, the
second of whom did not see what the first had said.

- **{bug} repositories have an active bug**: in {bug} of the {analysed} repositories in which a model could be analysed ({share}), both
  readers hold at least one finding about what is optimised to be true: noise that is not normal, a KL that does not belong to the draw, a
  weight that came from an average, layers that are never trained. These raise nothing: the training runs, and its loss falls. {other} more
  have only findings about a hard-coded device or unused layers.
- **{precision} of {read} findings are true for both readers** (95 % interval {interval}), and {false} are false for both; these are
  [listed too](#false-alarms). The other {arguable} are arguable, or the readers differ. They agree on {same} of {twice}
  ([kappa {kappa}](#two-readings)).
- **Effective betas range from {least} to {most}.** {betas} losses have a known weight of the KL against the reconstruction; {one} of them
  are an ELBO (beta = 1).

Authors of research code share it so that others can learn from it, and the survey is possible only because they did. A finding is a
statement about one line at one commit. It does not judge a paper's results, which may come from other code or other settings, or be
right in spite of it; several findings are choices that work well in practice.

## Bugs by family

Repositories with at least one finding that both readers hold to be true, by family of rules (`vaelint rules`); paler: those with arguable
findings only.

![Bars: {alt_families}](output/survey-families.svg)

{kinds}
## Effective beta

The weight of the KL relative to the reconstruction's log-likelihood, after all averages and sums ([what that is](kl-and-beta.md)), a dot
for each value in each repository; {misread} that the first reader found misread are left out. 1 is the ELBO. {below} of {betas} are
below 1 and {above} above; {tiny} are 0.01 or less, {large} are 100 or more: mostly an average over pixels, latents or the batch that
only one of the two terms has.

![Dots over a logarithmic axis from 0.00001 to 100,000, most of them around 1](output/survey-beta.svg)

## What could be analysed

In {loss} of {repositories} repositories a model was analysed together with its loss ({observed} of them by observing their own training
script), in {model} the model alone, in {nothing} nothing.

![Bars: {alt_analysed}](output/survey-analysed.svg)

{reasons}
Most of what was not analysed needs what a survey does not have and its author does: the data, the packages, the arguments. vaelint makes
up
missing data sets where it can guess their shape.

## Two readings

True means that the line does what the finding says. The first reader counted as true what no comment or name shows to be chosen; the
second, what a maintainer should change. Arguable: what the finding says is so, but it may be meant, or matters little there. False: what
it says is wrong.

{crossed}
They agree on {same} of {twice}; Cohen's kappa, which takes off what chance would give, is {kappa}. On {opposed} of them one says
true and the other false. A finding on which they differ counts as arguable. They differ most about a GPU that a repository presumes
throughout, and about state that is sized by an argument. The share of true findings with its 95 % interval:

| counted as true | share |
|---|---|
| by both readers | {true} of {read}, {precision} ({interval}) |
| by the first | {by_first} |
| by the second | {by_second} |
| by both, without the arguable ones | {without} |

## Findings held to be true

Each row is one place at one commit, with what vaelint measured there in its own words. Both readers hold these to be true; the words are
the first one's.

{true_table}
## Arguable findings

What vaelint says is so, but an author may have wanted it, or it matters little there; and all findings on which the readers differ, with
the words of both.

{arguable_table}
## False alarms

What vaelint said and both readers hold to be wrong. Each is a bug of vaelint; {fixed} of {false} have been fixed since, each with a
test. The figures of this page stay those of the first run.

{false_table}
## How it was done

- **Repositories**: found by their names (vae, variational, beta-vae, vqvae, cvae, ...) in an index of public repositories, taken if a
  Python file imports torch and names a part of a VAE. None is in the lists that rules were improved with
  (`benchmarks/corpus.json`, `benchmarks/entry_points.json`); nine that share files with one of those, or with each other, were taken out.
- **Runs**: vaelint at commit {commit}, {limit} seconds and 6 GB a repository, one after another, each in a copy, on two shared cores
  without a GPU, torch 2.13 for the CPU. {packages}
- **Reading**: each error and warning that a real run had not refuted. A code counts once in a file.{unread} The second reader got the
  list of places and messages without the first one's verdicts and words, and read each repository at its commit. The first reader had
  looked again, later, at about two thirds; a judgement that changed counts as arguable. Both readers belong to the
  project; the findings have not been judged from outside it yet.
- **Precision** is the share of true findings among all that were read. Intervals are Wilson's, which take findings to be independent; the
  {read} are from {places} repositories, and those of one repository resemble each other, so the true intervals are somewhat wider.

The facts are in `benchmarks/survey.json`, with no code of the repositories: each row links to the line. To repeat it, or to carry on where
it stopped:

```console
$ python benchmarks/survey.py run CHECKOUTS results.jsonl
$ python benchmarks/survey.py keep results.jsonl
```

Is your repository listed, and the finding wrong? Please report it: a false alarm is a bug of vaelint. A request to leave the list is
followed.
"""
