"""How many examples a law is tried on, and how many models a test: `make test` takes few, always the same ones, `make test-cases` all."""

from __future__ import annotations

import os

ALL = os.environ.get("VAELINT_CASES") == "all"

RULES_IN = 4
"""One in so many rules has its twins, `bad.py` and `good.py`, checked by `make test`; always the same ones."""
ONE_IN = 120
"""The same of the rules' further cases, `bad__<case>.py` and its twin."""
SYSTEMS_IN = 45
"""The same of the correct systems, `ok_<name>.py`."""
PART_OF = {
    "test_seed_gives_what_its_comments_say": 12,
    "test_it_is_named_with_its_place": 8,
    "test_what_is_not_so_is_refuted": 12,
    "test_a_change_is_found_at_its_line_and_its_twin_is_clean": 8,
    "test_a_divergence_is_named_with_its_reduction": 4,
    "test_the_effective_beta_is_measured": 8,
    "test_the_parts_of_a_divergence_are_listed_with_their_weights": 8,
    "test_a_likelihood_is_named_with_its_exact_weight": 6,
    "test_a_published_objective_is_named_with_its_source_and_weights": 6,
    "test_a_whole_likelihood_keeps_the_law": 5,
    "test_a_broken_likelihood_is_found_at_its_formula": 5,
    "test_a_gpu_changes_no_static_finding": 16,
    "test_no_experiment_mixes_two_devices": 12,
    "test_a_bug_of_the_gallery_is_found_as_shown": 8,
    "test_the_batch_is_a_symbol": 5,
    "test_without_keras_it_is_asked_for": 5,
    "test_one_change_gives_one_finding_at_its_line": 5,
    "test_good_fixture_is_clean": 5,
    "test_a_fault_is_found_in_a_plain_loop": 12,
    "test_what_is_not_there_is_made_up_as_the_script_uses_it": 6,
    "test_what_is_so_is_confirmed": 9,
    "test_a_change_of_what_was_seen_is_noticed": 5,
    "test_the_finding_is_gone_and_the_rest_is_kept": 5,
    "test_a_limit_before_the_scale_is_taken_out": 3,
    "test_a_warm_up_whose_counter_nothing_moves": 2,
    "test_beta_of_one_scale_for_all": 2,
    "test_a_fault_of_the_training_is_found_where_it_stands": 10,
    "test_what_a_metric_alone_is_made_of_may_leave_the_loss_as_it_is": 3,
    "test_what_happens_to_a_run_breaks_nothing": 3,
    "test_hostile_code_gives_one_clear_message_and_the_next_target_runs": 3,
    "test_a_full_disk_is_told_once": 3,
    "test_an_opened_model_gets_findings_words_and_a_fix_that_mends": 3,
    "test_a_fault_of_the_real_pass_costs_no_finding": 4,
}
"""Of tests that check another model for each of their cases, one case in so many; the first of each always. `make test-cases` runs all."""


def examples(few: int, many: int) -> int:
    """The number for this run."""
    return many if ALL else few
