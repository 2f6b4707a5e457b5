//! The contracts of the backend traits, as cases that any world has to pass unchanged.
//!
//! A case is an `async fn(Backends)`. It gets a world of its own (nothing in it, a lease of [`LEASE`]) and knows
//! nothing about what is behind the traits. A world joins with one runner: see `embedded.rs`.

pub(crate) mod stage;

mod accounts;
mod backplane;
mod budgets;
mod cancel;
mod claim;
mod cluster;
mod conversations;
mod embedded;
mod embedded_files;
mod embedded_model;
mod history;
mod limits;
mod log;
mod nodes;
mod path;
mod race;
mod search;
mod submit;
mod takeover;

use chatnode::backend::Backends;
use futures_util::future::BoxFuture;
pub(crate) use stage::LEASE;

/// A case and its name, `area::case`.
pub(crate) type Case = (&'static str, Run);

/// A case as a runner gets it.
pub(crate) type Run = fn(Backends) -> BoxFuture<'static, ()>;

/// Names every case once and hands the list to a macro: `every_case!(m x y)` is `m! { [x y] area { case … } … }`.
macro_rules! every_case {
    ($run:ident $($argument:tt)*) => {
        $run! {
            [$($argument)*]
            submit {
                stores_question_and_answer same_request_is_one_turn same_request_at_once same_request_of_two_users
                without_title_needs_the_conversation other_users_things_are_not_found failure_leaves_nothing
                follows_the_newest_leaf branches one_more_answer raises_version_and_time retry_after_delete
                options_come_back
            }
            conversations {
                create_reads_back create_twice_changes_nothing create_refuses_other_users other_users_find_nothing
                patch_changes_what_is_given list_order list_pages bad_cursor_starts_over delete_removes_everything
                export_is_in_order secret_is_shared
            }
            search {
                folds_case_and_diacritics all_words_in_one_place short_words wildcards_are_literal
                finds_answers_and_new_titles pages
            }
            path {
                pages_of_a_thousand ends siblings not_found empty_conversation through_a_branch_point
            }
            claim {
                first_in_first_out only_models_asked_for nothing_to_do is_exclusive tells_what_to_do this_one
                renewal_keeps_it release_frees_it_at_once release_is_no_attempt phases
            }
            takeover {
                after_the_lease counts_attempts progress_resets_the_count stalled_time
                zombie_changes_nothing expired_owner_may_go_on
            }
            log {
                reads_back_what_was_written pages_are_gapless many_small_entries repeat_writes_nothing out_of_order_names_the_tail
                finish_ends_everything repeat_of_finish after_the_end_nothing gone_with_its_conversation
                awkward_text unknown_is_gone
            }
            cancel {
                queued_ends_at_once running_is_told_by_renewal running_is_told_by_append survives_takeover
                after_the_end not_found
            }
            race {
                one_end_for_all claim_or_cancel many_logs_at_once delete_while_writing
            }
            backplane {
                delivers keeps_subjects_apart nobody_listens every_subscriber_hears all_hints_travel
            }
            nodes {
                heartbeat_lists_the_living waiting_work_is_counted
            }
            accounts {
                add_reads_back names_belong_to_one list_is_in_order change_ends_sessions
                passes_let_in_until_they_end keys_outlive_sessions too_many_passes_cost_the_oldest
                changes_are_told changes_at_once
            }
            limits {
                a_burst_then_the_rate buckets_are_apart one_bucket_for_all_at_once all_buckets_or_none
                answers_leave_their_rooms_when_they_end one_room_for_all_at_once a_refused_answer_was_a_request
                answers_that_never_were_lapse only_a_repeat_is_answered
                people_of_all_holders_count people_of_the_dead_do_not_count people_at_once
            }
            budgets {
                what_is_reserved_becomes_what_was_used no_figure_keeps_an_answer_from_ending an_end_counts_once one_budget_for_all_at_once
                each_period_has_its_own rooms_and_budget_or_neither reservations_that_are_over_lapse
            }
        }
    };
}
pub(crate) use every_case;

/// `every_case!(as_tests name runner)` makes one test of each case, `name::area::case`, that awaits `runner(case)`.
macro_rules! as_tests {
    ([$world:ident $runner:path] $($area:ident { $($case:ident)* })*) => {
        mod $world {
            $(mod $area {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $runner(|backends| Box::pin(crate::conformance::$area::$case(backends))).await;
                })*
            })*
        }
    };
}
pub(crate) use as_tests;

macro_rules! as_table {
    ([] $($area:ident { $($case:ident)* })*) => {
        vec![$($((concat!(stringify!($area), "::", stringify!($case)), |backends| Box::pin($area::$case(backends)))),*),*]
    };
}

/// Every case, for a runner that wants a table instead of one `#[test]` each.
pub(crate) fn cases() -> Vec<Case> {
    every_case!(as_table)
}
