//! Every figure under its documented name.

use super::*;

/// Reports one of everything.
fn full() -> Metrics {
    let (metrics, took) = (Metrics::new(), Duration::from_millis(3));
    metrics.ws_opened();
    metrics.ws_opened();
    metrics.ws_closed(4400);
    metrics.ws_rejected("origin");
    metrics.ws_resumed(Resume::Deltas);
    metrics.ws_lagging();
    metrics.http_request("/api/models", "GET", 200, took);
    metrics.rate_limited("connection");
    metrics.authenticated("local", "refused");
    metrics.first_token(took);
    metrics.delivered(took);
    metrics.token_gap(took);
    metrics.outbox_changed(30);
    metrics.outbox_changed(-10);
    metrics.gap_filled();
    metrics.rewound();
    metrics.generation_started();
    metrics.generation_ended("completed");
    metrics.cancelled(CancelPhase::Waiting, took);
    metrics.takeover("prefill");
    metrics.work_waiting(&[("a".to_owned(), 2)]);
    metrics.work_waited(took);
    metrics.worker_load(1, 64);
    metrics.retried("connect_timeout");
    metrics.fell_back("one", "two");
    metrics.circuit("one", Circuit::Open);
    metrics.upstream_request("openai", "a", "200");
    metrics.model_began("a", took);
    metrics.model_ended("a", 20, 4, took);
    metrics.store_call("append", took);
    metrics.store_failed();
    metrics.backplane_connected(true);
    metrics.backplane_dropped(3);
    metrics.event_dropped();
    metrics.history_archived(5);
    metrics.history_evicted();
    metrics.history_hydrated();
    metrics.history_failed();
    metrics.history_waiting(6);
    metrics.history_connected(true);
    metrics.draining();
    metrics.connection_cut("slow");
    metrics.followed(7);
    metrics
}

#[test]
fn every_figure_has_its_documented_name() {
    let text = full().encode();
    for line in [
        "chatnode_ws_connections 1",
        "chatnode_ws_closed_total{code=\"4400\"} 1",
        "chatnode_ws_rejected_total{reason=\"origin\"} 1",
        "chatnode_ws_resumes_total{result=\"deltas\"} 1",
        "chatnode_ws_lagging_total 1",
        "chatnode_http_requests_total{route=\"/api/models\",method=\"GET\",status=\"200\"} 1",
        "chatnode_http_request_duration_seconds_count 1",
        "chatnode_rate_limited_total{scope=\"connection\"} 1",
        "chatnode_auth_total{method=\"local\",result=\"refused\"} 1",
        "chatnode_generations_active 0",
        "chatnode_generations_total{outcome=\"completed\"} 1",
        "chatnode_first_token_seconds_bucket{le=\"0.005\"} 1",
        "chatnode_delivery_seconds_count 1",
        "chatnode_cancel_seconds_count{phase=\"waiting\"} 1",
        "chatnode_takeovers_total{rung=\"prefill\"} 1",
        "chatnode_token_gap_seconds_count 1",
        "chatnode_outbox_bytes 20",
        "chatnode_conversations_followed 7",
        "chatnode_gap_fills_total 1",
        "chatnode_rewinds_total 1",
        "chatnode_work_waiting{model=\"a\"} 2",
        "chatnode_work_wait_seconds_count 1",
        "chatnode_worker_running 1",
        "chatnode_worker_capacity 64",
        "chatnode_retries_total{reason=\"connect_timeout\"} 1",
        "chatnode_fallbacks_total{from=\"one\",to=\"two\"} 1",
        "chatnode_circuit_state{upstream=\"one\"} 2",
        "chatnode_upstream_requests_total{provider=\"openai\",model=\"a\",status=\"200\"} 1",
        "chatnode_store_seconds_count{op=\"append\"} 1",
        "chatnode_store_errors_total 1",
        "chatnode_backplane_connected 1",
        "chatnode_backplane_dropped_total 3",
        "chatnode_events_dropped_total 1",
        "chatnode_connections_cut_total{reason=\"slow\"} 1",
        "chatnode_history_archived_messages_total 5",
        "chatnode_history_evicted_total 1",
        "chatnode_history_hydrated_total 1",
        "chatnode_history_errors_total 1",
        "chatnode_history_waiting 6",
        "chatnode_history_connected 1",
        concat!("chatnode_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "chatnode_draining 1",
        "gen_ai_client_token_usage_sum{gen_ai_request_model=\"a\",gen_ai_token_type=\"input\"} 20.0",
        "gen_ai_client_token_usage_sum{gen_ai_request_model=\"a\",gen_ai_token_type=\"output\"} 4.0",
        "gen_ai_server_time_to_first_token_count{gen_ai_request_model=\"a\"} 1",
        "gen_ai_server_time_per_output_token_sum{gen_ai_request_model=\"a\"} 0.001",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_process_tells_about_itself_on_linux() {
    let text = full().encode();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    if cfg!(target_os = "linux") {
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }
    assert!(value("process_start_time_seconds ") > 1.7e9);
}

#[test]
fn a_model_without_waiting_work_leaves_the_list() {
    let metrics = full();
    metrics.work_waiting(&[]);
    assert!(!metrics.encode().contains("chatnode_work_waiting{"));
}
