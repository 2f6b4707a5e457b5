//! What can be chosen, and who is there.

use axum::Json;
use axum::extract::State;

use crate::gateway::Gateway;
use crate::model::ModelInfo;
use crate::protocol::{ClusterView, ErrorBody, List, Waiting};

/// The models that can be chosen now.
#[utoipa::path(get, path = "/api/models", responses((status = 200, body = List<ModelInfo>), (status = "default", body = ErrorBody)))]
pub(super) async fn models(State(gateway): State<Gateway>) -> Json<List<ModelInfo>> {
    Json(List { items: gateway.desk.models(), next: None })
}

/// The nodes that live, and the work that waits.
#[utoipa::path(get, path = "/api/cluster", responses((status = 200, body = ClusterView), (status = "default", body = ErrorBody)))]
pub(super) async fn cluster(State(gateway): State<Gateway>) -> Json<ClusterView> {
    let cluster = gateway.cluster.borrow().clone();
    let waiting = cluster.waiting.iter().map(|(model, count)| Waiting { model: model.clone(), count: *count }).collect();
    Json(ClusterView { node: gateway.node_id.to_string(), nodes: cluster.nodes.clone(), waiting })
}
